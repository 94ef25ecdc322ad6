"""Executes blocks that come as lines of JSON, all in one module; for ``manage.py shell``."""

import contextlib
import json
import sys
import traceback
import types


def execute(block: dict[str, str], module: types.ModuleType) -> str:
    """Return the traceback of a block, or nothing if it went well."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(block["text"], block["file"], "exec"), vars(module))
    except BaseException:  # noqa: BLE001 - whatever it is, the page is wrong
        return traceback.format_exc()
    return ""


module = types.ModuleType("blog.page")  # a part of the project's app, as its channels.py is
sys.modules[module.__name__] = module
for line in sys.stdin:
    print(json.dumps(execute(json.loads(line), module)), flush=True)
