"""A TCP link that delays what is sent to a server, so that a request takes that much longer. Task: port, seconds."""

from __future__ import annotations

import asyncio
import json

from measured import task

job = task()
PIECE = 1 << 18


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Passes bytes on, each piece so many seconds after it came."""
    loop = asyncio.get_running_loop()
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

    async def take() -> None:
        while data := await reader.read(PIECE):
            await line.put((loop.time() + seconds, data))
        await line.put((loop.time() + seconds, b""))

    taking = asyncio.create_task(take())
    try:
        while True:
            due, data = await line.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        taking.cancel()
        writer.close()


async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    there, back = await asyncio.open_connection("127.0.0.1", job["port"])
    await asyncio.gather(carry(reader, back, job["seconds"]), carry(there, writer, 0.0))


async def main() -> None:
    server = await asyncio.start_server(link, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


asyncio.run(main())
