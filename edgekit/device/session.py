"""From a bundle to a session that runs it."""

from edgekit import plugins
from edgekit.bundle import Bundle
from edgekit.device.capture.cores import pin
from edgekit.errors import BundleError
from edgekit.spec import Session, TensorSpec


def open_session(bundle: Bundle) -> Session:
    """Load a bundle's model with its backend and its session options.

    Args:
        bundle: as `edgekit.bundle.read` gives it, every byte verified.

    Returns:
        A session that the caller closes.

    Raises:
        MissingPackage: the backend's runtime is not installed.
        BundleError: the runtime refuses the model, or the model's inputs and outputs are not
            those that the manifest states.
    """
    manifest = bundle.manifest
    if manifest.loop.cores:
        pin(manifest.loop.cores)  # this thread and the runtime's own, which it is about to start
    session = plugins.loader(manifest.backend)(bundle.path / manifest.model, manifest.session)
    for kind, stated, found in (
        ("inputs", manifest.inputs, session.inputs),
        ("outputs", manifest.outputs, session.outputs),
    ):
        if sorted(stated, key=_name) != sorted(found, key=_name):
            session.close()
            raise BundleError(
                f"{bundle.path}: the manifest states the {kind} {_list(stated)}, "
                f"but {manifest.model} has {_list(found)}; build the bundle again"
            )
    return session


def _name(spec: TensorSpec) -> str:
    return spec.name


def _list(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name} {spec.shape} {spec.dtype}" for spec in specs)
