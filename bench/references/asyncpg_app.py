"""The reference for receiving: FastAPI with asyncpg, one INSERT a request into the same table (without our rules)."""

import hashlib
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
from fastapi import FastAPI, Request

STATEMENT = """
INSERT INTO webhooks_delivery (id, account_id, status, received_at, method, content_type, remote_address, query, body,
    size, digest, attempts, repeats, error_class, error_field, error_value, error_message)
SELECT $1, e.account_id, 'pending', $2, 'POST', $3, $4, '', $5, $6, $7, 0, 0, '', '', '', ''
FROM webhooks_endpoint e WHERE e.digest = $8 RETURNING account_id
"""


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=8, max_size=32)
    yield
    await app.state.pool.close()


application = FastAPI(lifespan=lifespan)


@application.post("/webhooks/{provider}/{token}/")
async def receive(provider: str, token: str, request: Request) -> dict[str, str]:
    """Store the body for the account of the token."""
    body, key = await request.body(), uuid4()
    await application.state.pool.fetchval(
        STATEMENT, key, datetime.now(UTC), request.headers.get("content-type", ""), request.client.host, body,
        len(body), hashlib.sha256(body).hexdigest(), hashlib.sha256(token.encode()).hexdigest(),
    )  # fmt: skip
    return {"delivery": str(key)}
