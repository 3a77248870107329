"""Let Hydra find experiments/ beside conf/, in a checkout and in an installed wheel."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class Experiments(SearchPathPlugin):
    """Adds the folder that holds experiments/ to the search path of this project's commands."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        # Hydra loads plugins for every Hydra program on this machine: import ours only where it is ours.
        from facedistill.config import CONFIG_DIR, CONFIG_HOME

        if any(entry.path and entry.path.endswith(str(CONFIG_DIR)) for entry in search_path.get_path()):
            search_path.append("facedistill", f"file://{CONFIG_HOME}")
