"""`null://`: results go nowhere; for measuring."""

from edgekit.device.copies import Copies
from edgekit.device.result import Result
from edgekit.device.uri import Uri


def open_output(uri: Uri, copies: Copies) -> "Null":
    """No options; copies nothing."""
    uri.only()
    return Null()


class Null:
    """Takes results and does nothing."""

    def write(self, result: Result) -> bool:
        """Go on."""
        return True

    def close(self) -> None:
        """Nothing to free."""
