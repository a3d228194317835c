"""Import coremltools without what it says about other packages."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgekit.errors import MissingPackage


def coremltools(purpose: str) -> Any:
    """The module `coremltools`; takes 5 to 10 s. `purpose` opens the message if it is missing.

    It warns of every version of torch and scikit-learn that it was not tested with, and off macOS
    of each part of Core ML that is not there; what matters of that, our tests hold.

    Raises:
        MissingPackage: coremltools is not installed; names the extra `coreml`.
    """
    with _quiet():
        try:
            import coremltools
            import coremltools.converters.mil.frontend.milproto.load
        except ImportError as error:
            raise MissingPackage("coremltools", "coreml", purpose) from error
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    return coremltools


@contextmanager
def _quiet() -> Iterator[None]:
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
