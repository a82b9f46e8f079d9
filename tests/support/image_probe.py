"""Imports all of memop, reads credentials of both kinds, and prints where each leads and how its token begins.

A script: `python -c TEXT KUBECONFIG_AS_JSON SERVICE_ACCOUNT_DIRECTORY`. It runs in the image, and where a test hides
what the image lacks.
"""

import asyncio
import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

import memop
from memop import client

for module in pkgutil.walk_packages(memop.__path__, "memop."):
    importlib.import_module(module.name)
for name in ("columns", "console", "live", "progress", "table"):  # `memop status` loads rich when it is called
    importlib.import_module(f"rich.{name}")


async def read() -> None:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(sys.argv[1])
        file.flush()
        for kubeconfig in (file.name, None):
            connection = await client.connect(kubeconfig)
            authorization = (await connection.read()).authorization
            print(connection.host, authorization[: len("Bearer eyJh")])  # noqa: T201 - what it is for


client.SERVICE_ACCOUNT = Path(sys.argv[2])
asyncio.run(read())
