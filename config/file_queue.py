"""The queue of an installation without Redis: a folder, in which no message is seen before all of it is written."""

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Kombu's own writes a message in place: a worker that takes it at that moment reads nothing, and ends."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        folder = Path(self.data_folder_out)
        name = f"{round(time.monotonic() * 1000)}_{uuid4()}.{queue}.msg"
        unfinished = folder / f"{name}.unfinished"  # no queue's name ends so
        unfinished.write_text(dumps(payload))
        unfinished.rename(folder / name)


class Transport(filesystem.Transport):
    """Kombu's transport with the channel above."""

    Channel = Channel
