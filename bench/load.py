"""``python -m bench.load HOST PORT PATH SECONDS CONNECTIONS``: POSTs over kept-alive connections and prints JSON.

Prints ``{"requests", "seconds", "failed", "p50_ms", "p99_ms"}``. It is a process of its own, to have a core of its own.
"""

import asyncio
import json
import sys
import time

import uvloop

FILLING = "a" * 600
WARM_UP_SECONDS = 1.0


async def main(host: str, port: int, path: str, seconds: float, connections: int) -> None:
    started = time.perf_counter() + WARM_UP_SECONDS
    ended = started + seconds
    latencies: list[float] = []
    failed = 0

    async def send(worker: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(host, port)
        number = 0
        while (before := time.perf_counter()) < ended:
            number += 1
            body = f'{{"appid": 2222222, "worker": {worker}, "number": {number}, "at": {before}, "x": "{FILLING}"}}'
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            if before >= started:
                latencies.append(time.perf_counter() - before)
                failed += not answer.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*(send(worker) for worker in range(connections)))
    latencies.sort()
    print(
        json.dumps(
            {
                "requests": len(latencies),
                "seconds": seconds,
                "failed": failed,
                "p50_ms": round(latencies[len(latencies) // 2] * 1000, 2),
                "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1000, 2),
            }
        )
    )


if __name__ == "__main__":
    host, port, path, seconds, connections = sys.argv[1:]
    uvloop.run(main(host, int(port), path, float(seconds), int(connections)))
