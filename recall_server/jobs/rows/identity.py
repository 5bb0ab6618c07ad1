"""Which job table and which state folder belong together."""

from __future__ import annotations

from sqlalchemy import select, update

from recall_server.errors import StorageFailed
from recall_server.jobs.rows.database import Database
from recall_server.jobs.rows.table import schema


def table_id(database: Database) -> str:
    """The id of this table, which no other table has."""
    with database.reading() as connection:
        identifier: str = connection.execute(select(schema.c.id)).scalar_one()
    return identifier


def bind_folder(database: Database, folder: str) -> None:
    """Take the state folder of that id for that of all servers. Raises StorageFailed for a second folder."""
    with database.writing() as connection:
        connection.execute(update(schema).where(schema.c.folder == "").values(folder=folder))
        bound = connection.execute(select(schema.c.folder)).scalar_one()
    if bound != folder:
        raise StorageFailed(
            "the servers of this job table have another state folder: share that folder with this server and name it "
            "(RECALL_STATE), or name another database (RECALL_DATABASE)"
        )
