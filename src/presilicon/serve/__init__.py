"""An endpoint as OpenAI's, on a chip that does not exist: ``Endpoint`` is the application, ``serve`` runs it."""

from presilicon.serve.app import Endpoint
from presilicon.serve.chip_text import ChipText
from presilicon.serve.server import bind, serve
from presilicon.serve.settings import Settings
from presilicon.serve.text import Filler, TextSource

__all__ = ["ChipText", "Endpoint", "Filler", "Settings", "TextSource", "bind", "serve"]
