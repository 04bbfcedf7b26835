"""The queue of an installation without Redis."""

from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection


class Slow:
    """Something in a message during whose writing another process looks for messages."""

    def __init__(self, look) -> None:
        self.look = look

    def __json__(self) -> str:
        self.look()
        return "written"


def test_a_message_is_not_seen_before_all_of_it_is_written(tmp_path: Path):
    options = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path), "control_folder": str(tmp_path / "c")}
    with (
        Connection("filesystem://", transport="config.file_queue:Transport", transport_options=options) as connection,
        connection.channel() as sender,
        connection.channel() as worker,
    ):

        def look() -> None:
            with pytest.raises(Empty):
                worker._get("work")

        sender._put("work", {"number": 1, "text": Slow(look)})
        assert worker._get("work") == {"number": 1, "text": "written"}
        assert list(tmp_path.glob("*work*")) == []
