"""The page: a model on a chip under sliders, chips side by side, a search and a replay that one can watch.

``Studio`` is the application of one workspace; ``run`` serves it.
"""

from presilicon.studio.app import Studio
from presilicon.studio.server import guarded, listen, run, token_for
from presilicon.studio.workspace import Workspace

__all__ = ["Studio", "Workspace", "guarded", "listen", "run", "token_for"]
