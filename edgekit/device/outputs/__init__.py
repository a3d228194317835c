"""Where results go: one file per URI scheme, each with `open_output(uri, copies) -> Output`."""
