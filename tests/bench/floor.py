"""The floor: bare Starlette on the same uvicorn, which verifies the signature and answers 204. It keeps nothing."""

import sys
from datetime import UTC, datetime

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.provider import Scheme
from receiver.schemes import Ed25519, HubSignature
from schemas.callback import Arrival

SCHEMES: dict[str, Scheme] = {"telnyx": Ed25519(), "whatsapp": HubSignature()}


def main() -> None:
    """Serve on a port with one credential a provider: `floor PORT telnyx=KEY whatsapp=SECRET`."""
    port, *pairs = sys.argv[1:]
    credentials = {name: (value,) for name, _, value in (pair.partition("=") for pair in pairs)}

    async def take(request: Request) -> Response:
        provider = request.path_params["provider"]
        arrival = Arrival(
            provider=provider,
            account=request.path_params["account"],
            method=request.method,
            url="",
            headers=tuple(request.scope["headers"]),
            url_token=None,
            body=await request.body(),
        )
        SCHEMES[provider].verify(arrival, credentials[provider], datetime.now(UTC))
        return Response(status_code=204)

    app = Starlette(routes=[Route("/webhooks/{provider}/{account}", take, methods=["POST"])])
    uvicorn.run(app, port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
