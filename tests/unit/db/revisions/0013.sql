BEGIN TRANSACTION;
CREATE TABLE glorasearch_distributions (
	study_id INTEGER NOT NULL, 
	name VARCHAR(512) NOT NULL, 
	version INTEGER NOT NULL, 
	distribution TEXT NOT NULL, 
	CONSTRAINT pk_glorasearch_distributions PRIMARY KEY (study_id, name, version), 
	CONSTRAINT fk_glorasearch_distributions_study_id_glorasearch_studies FOREIGN KEY(study_id) REFERENCES glorasearch_studies (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_distributions" VALUES(1,'blocks.0.attn.qkv.B',0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "vector", "lora:8"]}}');
INSERT INTO "glorasearch_distributions" VALUES(1,'rate',0,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
CREATE TABLE glorasearch_forecasts (
	run_id INTEGER NOT NULL, 
	stage VARCHAR(64) NOT NULL, 
	seconds DOUBLE NOT NULL, 
	CONSTRAINT pk_glorasearch_forecasts PRIMARY KEY (run_id, stage), 
	CONSTRAINT fk_glorasearch_forecasts_run_id_glorasearch_runs FOREIGN KEY(run_id) REFERENCES glorasearch_runs (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_forecasts" VALUES(1,'train',12.5);
INSERT INTO "glorasearch_forecasts" VALUES(1,'baseline',3.0);
CREATE TABLE glorasearch_leases (
	name VARCHAR(600) NOT NULL, 
	token VARCHAR(32) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	started VARCHAR(255) NOT NULL, 
	seconds DOUBLE NOT NULL, 
	beats INTEGER NOT NULL, 
	renewed DOUBLE NOT NULL, 
	CONSTRAINT pk_glorasearch_leases PRIMARY KEY (name)
);
CREATE TABLE glorasearch_metrics (
	run_id INTEGER NOT NULL, 
	stage VARCHAR(64) NOT NULL, 
	step INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value DOUBLE, 
	CONSTRAINT pk_glorasearch_metrics PRIMARY KEY (run_id, stage, step, name), 
	CONSTRAINT fk_glorasearch_metrics_run_id_glorasearch_runs FOREIGN KEY(run_id) REFERENCES glorasearch_runs (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_metrics" VALUES(1,'train',10,'loss',0.5);
CREATE TABLE glorasearch_notes (
	run_id INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	changed DATETIME NOT NULL, 
	CONSTRAINT pk_glorasearch_notes PRIMARY KEY (run_id), 
	CONSTRAINT fk_glorasearch_notes_run_id_glorasearch_runs FOREIGN KEY(run_id) REFERENCES glorasearch_runs (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_notes" VALUES(1,'with the larger images
and three seeds',1,'2026-11-29 09:52:07.074939');
CREATE TABLE glorasearch_progress (
	run_id INTEGER NOT NULL, 
	stage VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	started DATETIME NOT NULL, 
	updated DATETIME NOT NULL, 
	title TEXT NOT NULL, 
	note TEXT NOT NULL, 
	done INTEGER NOT NULL, 
	total INTEGER NOT NULL, 
	first_done INTEGER NOT NULL, 
	first_at DATETIME, 
	CONSTRAINT pk_glorasearch_progress PRIMARY KEY (run_id, stage), 
	CONSTRAINT fk_glorasearch_progress_run_id_glorasearch_runs FOREIGN KEY(run_id) REFERENCES glorasearch_runs (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_progress" VALUES(1,'train','failed','2026-11-29 00:00:00.000000','2026-11-29 00:00:00.000000','supernet','',7,10,0,'2026-11-29 00:00:00.000000');
CREATE TABLE glorasearch_race_members (
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
	training VARCHAR(64), 
	from_run TEXT, 
	judged TEXT, 
	CONSTRAINT pk_glorasearch_race_members PRIMARY KEY (run_id, candidate, fold), 
	CONSTRAINT fk_glorasearch_race_members_run_id_glorasearch_runs FOREIGN KEY(run_id) REFERENCES glorasearch_runs (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_race_members" VALUES(1,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',1,'lora at 0.003',1,4,3,'[2.5,1.5]',9,0.5,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','earlier','{"classes":[[3,1],[2,2],[2,1]],"auc":0.75}');
CREATE TABLE glorasearch_receipts (
	connection VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	written DATETIME NOT NULL, 
	CONSTRAINT pk_glorasearch_receipts PRIMARY KEY (connection)
);
CREATE TABLE glorasearch_runs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(255) NOT NULL, 
	config TEXT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	error TEXT, 
	created DATETIME NOT NULL, 
	updated DATETIME NOT NULL, 
	CONSTRAINT uq_glorasearch_runs_name UNIQUE (name)
);
INSERT INTO "glorasearch_runs" VALUES(1,'run','{"train":{"steps":10}}','digest','failed','out of memory','2026-11-29 09:52:06.983986','2026-11-29 09:52:07.008646');
CREATE TABLE glorasearch_schema (
	version_num VARCHAR(32)
);
INSERT INTO "glorasearch_schema" VALUES('0013');
CREATE TABLE glorasearch_stages (
	run_id INTEGER NOT NULL, 
	stage VARCHAR(64) NOT NULL, 
	result TEXT NOT NULL, 
	finished DATETIME NOT NULL, 
	CONSTRAINT pk_glorasearch_stages PRIMARY KEY (run_id, stage), 
	CONSTRAINT fk_glorasearch_stages_run_id_glorasearch_runs FOREIGN KEY(run_id) REFERENCES glorasearch_runs (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_stages" VALUES(1,'train','{"weights":"abc"}','2026-11-29 09:52:07.008026');
CREATE TABLE glorasearch_studies (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(512) NOT NULL, 
	directions TEXT NOT NULL, 
	trial_count INTEGER NOT NULL, 
	CONSTRAINT uq_glorasearch_studies_name UNIQUE (name)
);
INSERT INTO "glorasearch_studies" VALUES(1,'study','["maximize"]',2);
CREATE TABLE glorasearch_study_attributes (
	study_id INTEGER NOT NULL, 
	scope VARCHAR(8) NOT NULL, 
	"key" VARCHAR(512) NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_glorasearch_study_attributes PRIMARY KEY (study_id, scope, "key"), 
	CONSTRAINT fk_glorasearch_study_attributes_study_id_glorasearch_studies FOREIGN KEY(study_id) REFERENCES glorasearch_studies (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_study_attributes" VALUES(1,'user','budget','[0,null]');
CREATE TABLE glorasearch_trials (
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
	CONSTRAINT uq_glorasearch_trials_study_id_number UNIQUE (study_id, number), 
	CONSTRAINT fk_glorasearch_trials_study_id_glorasearch_studies FOREIGN KEY(study_id) REFERENCES glorasearch_studies (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_trials" VALUES(1,1,0,2,'complete','2026-11-29 09:52:06.974567','2026-11-29 09:52:06.983129','[0.75]','{"parameters":8,"origin":"evaluated"}','{}','[]','{"blocks.0.attn.qkv.B":2,"rate":0.25}');
INSERT INTO "glorasearch_trials" VALUES(2,1,1,0,'running','2026-11-29 09:52:06.983686',NULL,'null','{}','{}','[]','{}');
CREATE TABLE glorasearch_workers (
	run_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	process INTEGER NOT NULL, 
	ready INTEGER NOT NULL, 
	tasks INTEGER NOT NULL, 
	busy DOUBLE NOT NULL, 
	since DATETIME NOT NULL, 
	updated DATETIME NOT NULL, 
	CONSTRAINT pk_glorasearch_workers PRIMARY KEY (run_id, number), 
	CONSTRAINT fk_glorasearch_workers_run_id_glorasearch_runs FOREIGN KEY(run_id) REFERENCES glorasearch_runs (id) ON DELETE CASCADE
);
INSERT INTO "glorasearch_workers" VALUES(1,0,'gpu1',7,1,3,0.5,'2026-11-29 00:00:00.000000','2026-11-29 00:00:01.000000');
CREATE INDEX ix_glorasearch_race_members_training ON glorasearch_race_members (training);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('glorasearch_studies',1);
INSERT INTO "sqlite_sequence" VALUES('glorasearch_trials',2);
INSERT INTO "sqlite_sequence" VALUES('glorasearch_runs',1);
COMMIT;
