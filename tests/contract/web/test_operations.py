import schemathesis
from schemathesis import Case

from contract.web import fuzzing
from contract.web.webs import Web


@schemathesis.pytest.parametrize(**{operation: fuzzing.schema(operation) for operation in fuzzing.ANSWERS})
def test_every_operation_keeps_to_the_document(case: Case, asgi: Web, live: Web) -> None:
    """Whatever is sent, over ASGI and then over TCP to a process, the answer is one that openapi/web.yaml has for it.

    Both work on one database: a request with a key is a repetition the second time.
    """
    aimed = fuzzing.aimed(case, asgi.reports.known)
    asgi.try_out(aimed)
    live.try_out(aimed)
