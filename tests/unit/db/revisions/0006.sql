BEGIN TRANSACTION;
CREATE TABLE distributions (
	study_id INTEGER NOT NULL, 
	name VARCHAR(512) NOT NULL, 
	version INTEGER NOT NULL, 
	distribution TEXT NOT NULL, 
	CONSTRAINT pk_distributions PRIMARY KEY (study_id, name, version), 
	CONSTRAINT fk_distributions_study_id_studies FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
INSERT INTO "distributions" VALUES(1,'blocks.0.attn.qkv.B',0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "vector", "lora:8"]}}');
INSERT INTO "distributions" VALUES(1,'rate',0,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
CREATE TABLE glorasearch_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT glorasearch_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "glorasearch_schema" VALUES('0006');
CREATE TABLE leases (
	name VARCHAR(600) NOT NULL, 
	token VARCHAR(32) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	started VARCHAR(255) NOT NULL, 
	seconds DOUBLE NOT NULL, 
	beats INTEGER NOT NULL, 
	renewed DOUBLE NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
CREATE TABLE metrics (
	run_id INTEGER NOT NULL, 
	stage VARCHAR(64) NOT NULL, 
	step INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value DOUBLE, 
	CONSTRAINT pk_metrics PRIMARY KEY (run_id, stage, step, name), 
	CONSTRAINT fk_metrics_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "metrics" VALUES(1,'train',10,'loss',0.5);
CREATE TABLE race_members (
	run_id INTEGER NOT NULL, 
	candidate VARCHAR(64) NOT NULL, 
	fold INTEGER NOT NULL, 
	label TEXT NOT NULL, 
	rung INTEGER NOT NULL, 
	images INTEGER NOT NULL, 
	correct INTEGER NOT NULL, 
	nats TEXT, 
	steps INTEGER NOT NULL, 
	seconds DOUBLE NOT NULL, 
	CONSTRAINT pk_race_members PRIMARY KEY (run_id, candidate, fold), 
	CONSTRAINT fk_race_members_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "race_members" VALUES(1,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',1,'lora at 0.003',1,4,3,'[2.5,1.5]',9,0.5);
CREATE TABLE receipts (
	connection VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	written DATETIME NOT NULL, 
	CONSTRAINT pk_receipts PRIMARY KEY (connection)
);
CREATE TABLE runs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(255) NOT NULL, 
	config TEXT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	error TEXT, 
	created DATETIME NOT NULL, 
	updated DATETIME NOT NULL, 
	CONSTRAINT uq_runs_name UNIQUE (name)
);
INSERT INTO "runs" VALUES(1,'run','{"train":{"steps":10}}','digest','failed','out of memory','2026-11-28 11:00:31.073574','2026-11-28 11:00:31.077730');
CREATE TABLE stages (
	run_id INTEGER NOT NULL, 
	stage VARCHAR(64) NOT NULL, 
	result TEXT NOT NULL, 
	finished DATETIME NOT NULL, 
	CONSTRAINT pk_stages PRIMARY KEY (run_id, stage), 
	CONSTRAINT fk_stages_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "stages" VALUES(1,'train','{"weights":"abc"}','2026-11-28 11:00:31.077324');
CREATE TABLE studies (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(512) NOT NULL, 
	directions TEXT NOT NULL, 
	trial_count INTEGER NOT NULL, 
	CONSTRAINT uq_studies_name UNIQUE (name)
);
INSERT INTO "studies" VALUES(1,'study','["maximize"]',2);
CREATE TABLE study_attributes (
	study_id INTEGER NOT NULL, 
	scope VARCHAR(8) NOT NULL, 
	"key" VARCHAR(512) NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_study_attributes PRIMARY KEY (study_id, scope, "key"), 
	CONSTRAINT fk_study_attributes_study_id_studies FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
INSERT INTO "study_attributes" VALUES(1,'user','budget','[0,null]');
CREATE TABLE trials (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	started DATETIME, 
	finished DATETIME, 
	objectives TEXT, 
	user_attrs TEXT NOT NULL, 
	system_attrs TEXT NOT NULL, 
	intermediate TEXT NOT NULL, 
	params TEXT NOT NULL, 
	CONSTRAINT uq_trials_study_id_number UNIQUE (study_id, number), 
	CONSTRAINT fk_trials_study_id_studies FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
INSERT INTO "trials" VALUES(1,1,0,2,'complete','2026-11-28 11:00:31.029741','2026-11-28 11:00:31.032509','[0.75]','{"parameters":8,"origin":"evaluated"}','{}','[]','{"blocks.0.attn.qkv.B":2,"rate":0.25}');
INSERT INTO "trials" VALUES(2,1,1,0,'running','2026-11-28 11:00:31.073173',NULL,'null','{}','{}','[]','{}');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('studies',1);
INSERT INTO "sqlite_sequence" VALUES('trials',2);
INSERT INTO "sqlite_sequence" VALUES('runs',1);
COMMIT;
