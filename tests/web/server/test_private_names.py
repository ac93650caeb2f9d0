"""The private names of aiohttp that the server uses: a release that renames one fails here, by its name."""

from __future__ import annotations

import ast
import inspect

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from hotconf.web.server import connection
from tests.test_architecture import MODULES


async def answer(request):
    return web.Response()


async def aiohttp_objects():
    server = web.Server(answer)
    request = make_mocked_request("GET", "/")
    return {"Server": server, "RequestHandler": server(), "BaseRequest": request, "Application": web.Application()}


USED = (
    "Server._kwargs",
    "RequestHandler._messages",
    "BaseRequest._prepare_hook",
    "Application._make_request",
)


@pytest.mark.parametrize("name", USED)
async def test_a_private_name_is_still_there(name):
    first, *inner = name.split(".")
    value = (await aiohttp_objects())[first]
    for attribute in inner:
        assert hasattr(value, attribute), f"aiohttp has no {name} any more: see {connection.__name__}"
        value = getattr(value, attribute)


async def test_a_private_name_means_what_it_meant():
    objects = await aiohttp_objects()
    assert dict(web.Server(answer, tcp_keepalive=False)._kwargs) == {"tcp_keepalive": False}
    assert len(objects["RequestHandler"]._messages) == 0
    assert "_cls" in inspect.signature(objects["Application"]._make_request).parameters


def foreign_private_names(name):
    """The private attributes that a module uses of other objects, or of `self` without setting or defining them."""
    nodes = list(ast.walk(MODULES[name]))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    of_self = [node for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"]
    own = {node.attr for node in of_self if isinstance(node.ctx, ast.Store)}
    own |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    foreign = {node.attr for node in attributes if node not in of_self} | ({node.attr for node in of_self} - own)
    of_named_tuples = {"_replace"}
    return {attr for attr in foreign if not attr.startswith("__")} - of_named_tuples


@pytest.mark.parametrize("name", [name for name in MODULES if name == "web" or name.startswith("web.")])
def test_only_the_connection_uses_private_names(name):
    expected = {"_kwargs", "_messages", "_prepare_hook"} if name == "web.server.connection" else set()
    assert foreign_private_names(name) == expected


def test_the_connection_says_why_it_uses_each():
    documented = inspect.getdoc(connection)
    assert all(part in documented for name in USED for part in name.split("."))
