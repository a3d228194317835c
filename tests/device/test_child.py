import json
import subprocess

import pytest

from edgekit.device.child import as_news, command, from_news
from edgekit.errors import EdgekitError, MissingPackage, SourceUnavailable


@pytest.mark.parametrize(
    "error", [SourceUnavailable("gone"), MissingPackage("av", "camera", "reading")]
)
def test_an_error_comes_back_as_it_was(error: EdgekitError) -> None:
    found = from_news(json.loads(json.dumps(as_news(error))))
    assert (type(found), str(found), found.exit_code) == (type(error), str(error), error.exit_code)


def test_a_child_has_the_same_path_and_its_arguments() -> None:
    code = "import edgekit; print(edgekit.__version__, sys.argv[2:])"
    done = subprocess.run(command(code, "a", "b"), capture_output=True, text=True, check=True)
    assert done.stdout.endswith("['a', 'b']\n")
