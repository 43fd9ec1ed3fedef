# verdict: passed
import asyncio


async def wait():
    await asyncio.sleep(0.001)
    return await asyncio.to_thread(abs, -1)


assert asyncio.run(wait()) == 1
