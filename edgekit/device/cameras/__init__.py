"""Where frames come from: one file per URI scheme, each with `open_camera(uri: Uri) -> Camera`."""
