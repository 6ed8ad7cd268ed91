"""What an answer about very many pairs takes, measured at the process."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE

from tests.integration.visibility.conftest import Engine

COHORTS = 20_000
IMAGES = 500
MOST_MIB = 100

PROGRAM = f"""
import asyncio, sys
from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import Image, Visibility
from shared.pool import open_pool

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

async def main():
    audience = Audience("ayb_authenticated")
    for n in range({COHORTS}):
        audience.add(n, (str(n), "", "", ""))
    rows = [(n, n * 7 % {COHORTS // 2}) for n in range({IMAGES})]
    images = [Image(b'{{"id":%d,"least":%d}}' % row) for row in rows]
    async with open_pool(sys.argv[1], application_name="ayb-gateway", most=2) as pool:
        visibility = Visibility(pool)
        relid = await pool.fetchval("SELECT 'shared'::regclass::oid")
        await visibility.ask(relid, audience, images[:1], 0)
        before = peak()
        answer = await visibility.ask(relid, audience, images, 0)
    assert visibility.plan_of(relid, "ayb_authenticated").form == "joined"
    numbers = [int(values[0]) for values in answer.grouping.values]
    for n in (1, 17, {IMAGES} - 1):
        least = n * 7 % {COHORTS // 2}
        assert {{numbers[c] for c in answer.visible[n]}} == set(range(least, {COHORTS}))
    print(peak() - before)

asyncio.run(main())
"""


async def test_millions_of_pairs_take_little_memory(engine: Engine) -> None:
    """20,000 cohorts, of which each of 500 images is seen by most, and by others than the last: the
    process grows by less than a frozenset for each image would take.
    """
    await engine.admin.execute("""
        CREATE TABLE shared (id int PRIMARY KEY, least int);
        ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON shared TO ayb_authenticated;
        CREATE POLICY p ON shared USING (least <= current_setting('ayb.user_id')::int);
        GRANT SELECT ON shared TO ayb_gateway;
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, engine.database.gateway_dsn, stdout=PIPE, stderr=PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors[-2000:]
    grown = float(output.split()[-1])
    print(f"grown by {grown:.0f} MiB")
    assert grown < MOST_MIB
