"""Count the operators of a `.tflite` file, as it was built: no delegate is applied."""

from collections import Counter
from pathlib import Path

from edgekit.errors import BundleError, MissingPackage


def operators(model: Path) -> Counter[str]:
    """How often each operator stands in the main graph.

    Raises:
        MissingPackage: ai-edge-litert is not installed.
        BundleError: the file cannot be read, or LiteRT refuses it.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise MissingPackage("ai-edge-litert", "litert", "reading a LiteRT model") from error
    try:
        interpreter = Interpreter(
            model_content=model.read_bytes(),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        details = interpreter._get_ops_details()
    except OSError as error:
        raise BundleError(f"cannot read the model {model}: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"LiteRT refuses the model {model}: {reason}") from error
    return Counter(str(op["op_name"]) for op in details)
