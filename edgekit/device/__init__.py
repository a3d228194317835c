"""The device half: a bundle, a camera, and the loop between them. numpy, OpenCV and one runtime.

    with (
        closing(open_session(bundle)) as session,
        closing(open_camera("v4l2:///dev/video0")) as camera,
        Loop(bundle, session, camera) as loop,
    ):
        for result in loop:
            print(result.best.label)

`session` opens a bundle's model, `image` is the way from pixels to its input, `decode` from its
logits to labels, `golden` replays a bundle's proofs. `uri` finds where frames come from
(`cameras/`) and results go (`outputs/`); `frame` and `slots` lend camera memory; `loop` joins them.
`stats`, `histogram` and `copies` count what it costs; `seen` sums up what was seen, by the second.
"""
