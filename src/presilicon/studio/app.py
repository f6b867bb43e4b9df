"""The application: the page, what it asks while sliders move, its jobs and its downloads."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from presilicon import __version__, design
from presilicon import chip as chips
from presilicon.chip import Chip
from presilicon.dtypes import FORMATS
from presilicon.errors import InputError, PresiliconError, WorkloadError
from presilicon.files import clean
from presilicon.studio import asked, blank, live
from presilicon.studio.asked import Asked
from presilicon.studio.chip_report import chip_report
from presilicon.studio.guard import TooLargeError
from presilicon.studio.job_pictures import pictures, report_of
from presilicon.studio.jobs import Jobs
from presilicon.studio.orders import order
from presilicon.studio.variant import controls
from presilicon.studio.workspace import Workspace
from presilicon.view import page_style, style

TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "txt": "text/plain", "svg": "image/svg+xml"}
KEPT = "file:"
"""What names of chips that were dropped onto the page begin with; an id follows."""


class Studio:
    """One workspace and its jobs; ``app`` is what a server runs."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.jobs = Jobs(workspace)
        self.app = _app(self)

    def chip(self, name: str) -> Chip:
        """A chip of the library or one that was dropped; never a path."""
        if name.startswith(KEPT):
            return self.workspace.chip(name.removeprefix(KEPT))
        return asked.library_chip(name)

    def chosen(self, state: Asked) -> Chip:
        """The chip of a state, its changes applied."""
        return asked.chip_of(state, self.chip)

    def library(self) -> dict[str, Any]:
        """What can be chosen."""
        return {
            "version": __version__,
            "models": [{"name": m.name, "kind": m.kind, "aliases": list(m.aliases)} for m in asked.listed()],
            "chips": [{"name": c.name, "title": c.title or c.name, "blank": list(c.missing())} for c in chips.library()],
            "formats": [name for name in FORMATS if name != "int32"],
            "most_chips": asked.MOST_CHIPS,
            "objectives": list(design.OBJECTIVES),
            "axes": {c["key"]: c["values"] for c in blank.choices()},
        }

    def job(self, about: object) -> str:
        """Start what a request asks for; the job's id."""
        return self.jobs.start(order(about, self.chip, self.workspace))


async def _body(request: Request) -> Any:
    """The JSON of a request."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InputError("the body is not JSON", hint="content-type application/json")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InputError("the body is not JSON") from None


def _static() -> dict[str, tuple[bytes, str]]:
    """Every file of the page by its name, as it is sent."""
    found = {}
    for path in (resources.files("presilicon.studio") / "static").iterdir():
        ending = path.name.rpartition(".")[2]
        if ending in TYPES:
            found[path.name] = (path.read_bytes(), TYPES[ending])
    found["view.css"] = ((style() + page_style()).encode("utf-8"), TYPES["css"])
    return found


def _state(request: Request) -> Asked:
    """The state of the page in a link's query."""
    try:
        return Asked.of(json.loads(request.query_params.get("state", "{}")))
    except ValueError:
        raise WorkloadError("the link holds no state of the page") from None


def _file(content: bytes | str, name: str, kind: str) -> Response:
    return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in name)[:80] or "chip"


def _app(studio: Studio) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # What the first answer needs is read before anyone waits for it.
        await run_in_threadpool(lambda: (studio.library(), live.answer(Asked.of({}), studio.chip)))
        yield
        studio.jobs.close()

    app = FastAPI(
        title="presilicon studio", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    files = _static()

    @app.get("/")
    async def page() -> Response:
        content, kind = files["index.html"]
        return Response(content, media_type=kind)

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        content, kind = files[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/api/library")
    async def library() -> Response:
        return JSONResponse(await run_in_threadpool(studio.library))

    @app.get("/api/controls")
    async def sliders(chip: str) -> Response:
        own = chip == blank.NAME
        one = blank.chip({}, {}) if own else studio.chip(chip)
        about = {
            "name": one.name, "title": one.title or one.name, "vendor": one.vendor, "year": one.year, "note": one.note,
            "node": one.process_node, "memory_kind": one.memory.kind if one.memory else "",
            "template": one.template is not None, "formats": sorted(one.peak_ops_per_s),
        }  # fmt: skip
        moved = [control.to_json() for control in (blank.controls() if own else controls(one))]
        return JSONResponse({"chip": about, "controls": moved, "choices": blank.choices() if own else []})

    @app.post("/api/estimate")
    async def estimate(request: Request) -> Response:
        state = Asked.of(await _body(request))
        return JSONResponse(clean(await run_in_threadpool(live.answer, state, studio.chip)))

    @app.post("/api/compare")
    async def compare(request: Request) -> Response:
        body = await _body(request)
        given = body if isinstance(body, dict) else {}
        width = given.get("width", 640.0)
        if isinstance(width, bool) or not isinstance(width, int | float):
            raise WorkloadError("width is no number")
        return JSONResponse(clean(await run_in_threadpool(live.compared, given.get("states"), float(width), studio.chip)))

    @app.post("/api/chips")
    async def keep_chip(request: Request) -> Response:
        body = await _body(request)
        name, one = studio.workspace.keep_chip(str(body.get("text", "")) if isinstance(body, dict) else "")
        return JSONResponse({"name": KEPT + name, "title": one.title or one.name})

    @app.post("/api/traces")
    async def keep_trace(request: Request, name: str = "trace") -> Response:
        content = await request.body()
        return JSONResponse({"trace": studio.workspace.keep_trace(content, name), "title": name})

    @app.get("/api/jobs")
    async def all_jobs() -> Response:
        return JSONResponse({"jobs": studio.jobs.all()})

    @app.post("/api/jobs")
    async def start(request: Request) -> Response:
        about = await _body(request)
        return JSONResponse({"id": await run_in_threadpool(studio.job, about)})

    @app.get("/api/jobs/{name}")
    async def job(name: str, width: float = 640.0) -> Response:
        def told() -> dict[str, Any]:
            found = studio.jobs.tell(name)
            return found | {"pictures": pictures(found, asked.fitting(width))}

        return JSONResponse(clean(await run_in_threadpool(told)))

    @app.get("/api/jobs/{name}/report.html")
    async def job_report(name: str) -> Response:
        return _file(await run_in_threadpool(report_of, studio.workspace.job(name)), "report.html", "text/html")

    @app.post("/api/jobs/{name}/{what}")
    async def steer(name: str, what: str) -> Response:
        steps: dict[str, Callable[[str], None]] = {"stop": studio.jobs.stop, "resume": studio.jobs.resume}
        if what not in steps:
            raise HTTPException(404)
        await run_in_threadpool(steps[what], name)
        return JSONResponse({"state": studio.jobs.state(name)})

    @app.get("/download/chip.toml")
    async def toml(request: Request) -> Response:
        one = studio.chosen(_state(request))
        return _file(one.to_toml(), f"{_safe(one.name)}.toml", "application/toml")

    @app.get("/download/verilog.zip")
    async def verilog(request: Request) -> Response:
        one = studio.chosen(_state(request))
        return _file(await run_in_threadpool(_verilog, one), f"{_safe(one.name)}-verilog.zip", "application/zip")

    @app.get("/download/report.html")
    async def report(request: Request) -> Response:
        return _file(await run_in_threadpool(chip_report, _state(request), studio.chip), "report.html", "text/html")

    @app.exception_handler(PresiliconError)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, PresiliconError)
        return JSONResponse({"refused": asked.told(error)}, 422)

    @app.exception_handler(TooLargeError)
    async def too_large(_: Request, error: Exception) -> Response:
        return JSONResponse({"refused": {"message": "the body is too large", "where": "", "hint": ""}}, 413)

    return app


def _verilog(chip: Chip) -> bytes:
    """The Verilog of a template chip as a zip file; ChipError for any other chip."""
    from presilicon.rtl.emit import files
    from presilicon.template import Core

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files(Core.of(chip)).items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()
