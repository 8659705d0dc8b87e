from sqlalchemy import text
from glorasearch.db import Database
ID = text("SELECT CAST(pg_current_xact_id_if_assigned() AS text)")
def test_reuse(postgresql, postgresql_url):
    first = Database(postgresql_url)
    c = first.engine.connect(); 
    with first.write() as k: k.execute(text("INSERT INTO runs (name, config, digest, state, created, updated) VALUES ('z','{}','','created',now(),now())"))
    t = c.begin()
    c.execute(text("INSERT INTO runs (name, config, digest, state, created, updated) VALUES ('a','{}','','created',now(),now())"))
    lost = c.execute(ID).scalar_one()
    postgresql.stop(); postgresql.start()
    second = Database(postgresql_url)
    for i in range(3):
        with second.write() as d:
            d.execute(text(f"INSERT INTO runs (name, config, digest, state, created, updated) VALUES ('b{i}','{{}}','','created',now(),now())"))
            print("lost", lost, "new", d.execute(ID).scalar_one())
    with second.read() as d:
        print("status of the lost one:", d.execute(text("SELECT pg_xact_status(CAST(CAST(:id AS text) AS xid8))"), {"id": lost}).scalar_one(), d.execute(text("select version()")).scalar_one())
        print(d.execute(text("select name from runs")).all())
