SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.apflow_tasks (
    id character varying(255) NOT NULL,
    parent_id character varying(255),
    task_tree_id character varying(255),
    user_id character varying(255),
    name character varying(100) NOT NULL,
    status character varying(50),
    priority integer,
    dependencies json,
    inputs json,
    params json,
    result json,
    error text,
    schemas json,
    progress numeric(3,2),
    created_at timestamp with time zone DEFAULT now(),
    started_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now(),
    completed_at timestamp with time zone,
    has_children boolean,
    original_task_id character varying(255),
    origin_type character varying(50),
    has_references boolean,
    schedule_type character varying(20),
    schedule_expression character varying(100),
    schedule_enabled boolean,
    schedule_start_at timestamp with time zone,
    schedule_end_at timestamp with time zone,
    next_run_at timestamp with time zone,
    last_run_at timestamp with time zone,
    max_runs integer,
    run_count integer,
    lease_id character varying(100),
    lease_expires_at timestamp with time zone,
    placement_constraints json,
    attempt_id integer,
    idempotency_key character varying(255),
    last_assigned_node character varying(100)
);
INSERT INTO public.apflow_tasks VALUES ('failed-b', 'failed', 'failed', 'alice', 'The task failed-b', 'pending', 1, '[{"id": "failed-a"}, "failed-c"]', '{"command": "echo after"}', '{}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:50.283248+00', NULL, '2026-11-26 10:28:50.283248+00', NULL, false, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('failed-c', 'failed', 'failed', 'alice', 'The task failed-c', 'pending', 1, '[]', '{"command": "echo beside"}', '{}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:50.283248+00', NULL, '2026-11-26 10:28:50.283248+00', NULL, false, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('new', NULL, 'new', 'bob', 'The task new', 'pending', 3, '["new-a"]', '{}', '{}', NULL, NULL, '{"method": "aggregate_results_executor"}', 0.00, '2026-11-26 10:28:50.501571+00', NULL, '2026-11-26 10:28:50.501571+00', NULL, true, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('new-a', 'new', 'new', 'bob', 'The task new-a', 'pending', 1, '[]', '{"host": "example.com", "command": "ls", "nested": {"list": [1, 2.5, null, true, "x"]}}', '{"retries": 2}', NULL, NULL, '{"method": "ssh_executor"}', 0.00, '2026-11-26 10:28:50.501571+00', NULL, '2026-11-26 10:28:50.501571+00', NULL, false, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('running', NULL, 'running', 'alice', 'The task running', 'pending', 1, '["running-a"]', '{}', '{}', NULL, NULL, '{"method": "aggregate_results_executor"}', 0.00, '2026-11-26 10:28:50.874125+00', NULL, '2026-11-26 10:28:50.874125+00', NULL, true, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('done-b', 'done', 'done', 'alice', 'The task done-b', 'completed', 0, '["done-a"]', '{"command": "cat /dev/null", "done-a": {"success": true, "return_code": 0, "stdout": "\u00e4\u20ac\ud83d\ude00", "stderr": ""}}', '{}', '{"success": true, "return_code": 0, "stdout": "", "stderr": ""}', NULL, '{"method": "command_executor"}', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:51.050815+00', '2026-11-26 10:28:51.949477+00', '2026-11-26 10:28:51.119975+00', false, NULL, 'create', true, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('done-a', 'done', 'done', 'alice', 'The task done-a', 'completed', 1, '[]', '{"command": "echo \u00e4\u20ac\ud83d\ude00"}', '{"note": 9007199254740992}', '{"success": true, "return_code": 0, "stdout": "\u00e4\u20ac\ud83d\ude00", "stderr": ""}', NULL, '{"method": "command_executor"}', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:50.98382+00', '2026-11-26 10:28:51.949477+00', '2026-11-26 10:28:51.030842+00', false, NULL, 'create', true, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('failed-a', 'failed', 'failed', 'alice', 'The task failed-a', 'failed', 1, '[]', '{"method": "GET"}', '{}', NULL, 'This transaction is closed', '{"method": "rest_executor"}', 0.00, '2026-11-26 10:28:50.283248+00', NULL, '2026-11-26 10:28:51.384616+00', '2026-11-26 10:28:51.385319+00', false, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('failed', NULL, 'failed', 'alice', 'The task failed', 'failed', 1, '[{"id": "failed-b"}]', '{}', '{}', NULL, 'greenlet_spawn has not been called; can''t call await_only() here. Was IO attempted in an unexpected place? (Background on this error at: https://sqlalche.me/e/20/xd2s)', '{"method": "aggregate_results_executor"}', 0.00, '2026-11-26 10:28:50.283248+00', NULL, '2026-11-26 10:28:51.389678+00', '2026-11-26 10:28:51.405677+00', true, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('alone', NULL, 'alone', NULL, 'The task alone', 'completed', 1, '[]', '{"command": "echo without an owner"}', '{}', '{"success": true, "return_code": 0, "stdout": "without an owner", "stderr": ""}', NULL, '{"method": "command_executor"}', 1.00, '2026-11-26 10:28:50.6364+00', '2026-11-26 10:28:51.72792+00', '2026-11-26 10:28:51.752683+00', '2026-11-26 10:28:51.766385+00', false, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('scheduled', NULL, 'scheduled', 'alice', 'The task scheduled', 'pending', 1, '[]', '{"command": "echo now and then"}', '{}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:51.856372+00', NULL, '2026-11-26 10:28:51.856372+00', NULL, false, NULL, 'create', false, 'cron', '0 9 * * 1-5', true, NULL, NULL, NULL, NULL, 10, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('done', NULL, 'done', 'alice', 'The task done', 'completed', 1, '[{"id": "done-b", "required": true}]', '{"done-b": {"success": true, "return_code": 0, "stdout": "", "stderr": ""}}', '{}', '{"summary": "Aggregated 1 task result. from: done-b", "timestamp": "2026-11-26T10:28:51.194819", "results": {"done-b": {"success": true, "return_code": 0, "stdout": "", "stderr": ""}}, "result_count": 1}', NULL, '{"method": "aggregate_results_executor"}', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:51.146571+00', '2026-11-26 10:28:51.949477+00', '2026-11-26 10:28:51.199418+00', true, NULL, 'create', true, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('f60f85fd-a809-45e1-a71a-8c615e159d33', NULL, 'done', 'alice', 'The task done', 'completed', 1, '[{"id": "1d657706-e3c5-4667-b76c-693732477df4", "required": true}]', 'null', 'null', 'null', NULL, 'null', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:51.146571+00', '2026-11-26 10:28:51.949477+00', '2026-11-26 10:28:51.199418+00', true, 'done', 'link', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('1d657706-e3c5-4667-b76c-693732477df4', 'f60f85fd-a809-45e1-a71a-8c615e159d33', 'done', 'alice', 'The task done-b', 'completed', 0, '["2259d6db-34d4-4402-9ebf-99d358cfc19a"]', 'null', 'null', 'null', NULL, 'null', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:51.050815+00', '2026-11-26 10:28:51.949477+00', '2026-11-26 10:28:51.119975+00', false, 'done-b', 'link', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('2259d6db-34d4-4402-9ebf-99d358cfc19a', 'f60f85fd-a809-45e1-a71a-8c615e159d33', 'done', 'alice', 'The task done-a', 'completed', 1, '[]', 'null', 'null', 'null', NULL, 'null', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:50.98382+00', '2026-11-26 10:28:51.949477+00', '2026-11-26 10:28:51.030842+00', false, 'done-a', 'link', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('050e597f-9245-4c93-86ab-dfbfd479e9b9', '8c0f2349-3467-4ff7-b78d-41106ba9c172', 'done', 'alice', 'The task done-b', 'completed', 0, '["581083fa-49fb-4f87-823a-55de5b9d75f1"]', '{"command": "cat /dev/null", "done-a": {"success": true, "return_code": 0, "stdout": "\u00e4\u20ac\ud83d\ude00", "stderr": ""}}', '{}', '{"success": true, "return_code": 0, "stdout": "", "stderr": ""}', NULL, '{"method": "command_executor"}', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:51.050815+00', '2026-11-26 10:28:52.243593+00', '2026-11-26 10:28:51.119975+00', false, 'done-b', 'archive', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('581083fa-49fb-4f87-823a-55de5b9d75f1', '8c0f2349-3467-4ff7-b78d-41106ba9c172', 'done', 'alice', 'The task done-a', 'completed', 1, '[]', '{"command": "echo \u00e4\u20ac\ud83d\ude00"}', '{"note": 9007199254740992}', '{"success": true, "return_code": 0, "stdout": "\u00e4\u20ac\ud83d\ude00", "stderr": ""}', NULL, '{"method": "command_executor"}', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:50.98382+00', '2026-11-26 10:28:52.243593+00', '2026-11-26 10:28:51.030842+00', false, 'done-a', 'archive', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('8c0f2349-3467-4ff7-b78d-41106ba9c172', NULL, 'done', 'alice', 'The task done', 'completed', 1, '[{"id": "050e597f-9245-4c93-86ab-dfbfd479e9b9", "required": true}]', '{"done-b": {"success": true, "return_code": 0, "stdout": "", "stderr": ""}}', '{}', '{"summary": "Aggregated 1 task result. from: done-b", "timestamp": "2026-11-26T10:28:51.194819", "results": {"done-b": {"success": true, "return_code": 0, "stdout": "", "stderr": ""}}, "result_count": 1}', NULL, '{"method": "aggregate_results_executor"}', 1.00, '2026-11-26 10:28:50.189665+00', '2026-11-26 10:28:51.146571+00', '2026-11-26 10:28:52.243593+00', '2026-11-26 10:28:51.199418+00', true, 'done', 'archive', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('stopped', NULL, 'stopped', 'alice', 'The task stopped', 'cancelled', 1, '[]', '{"command": "sleep 600"}', '{}', NULL, 'Enough', '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:50.77972+00', NULL, '2026-11-26 10:28:52.364134+00', '2026-11-26 10:28:52.384732+00', false, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
INSERT INTO public.apflow_tasks VALUES ('running-a', 'running', 'running', 'alice', 'The task running-a', 'in_progress', 1, '[]', '{"command": "sleep 600"}', '{}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:50.874125+00', '2026-11-26 10:28:52.490867+00', '2026-11-26 10:28:52.475683+00', NULL, false, NULL, 'create', false, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 'null', 0, NULL, NULL);
ALTER TABLE ONLY public.apflow_tasks
    ADD CONSTRAINT apflow_tasks_pkey PRIMARY KEY (id);
CREATE INDEX ix_apflow_tasks_has_references ON public.apflow_tasks USING btree (has_references);
CREATE INDEX ix_apflow_tasks_id ON public.apflow_tasks USING btree (id);
CREATE INDEX ix_apflow_tasks_name ON public.apflow_tasks USING btree (name);
CREATE INDEX ix_apflow_tasks_next_run_at ON public.apflow_tasks USING btree (next_run_at);
CREATE INDEX ix_apflow_tasks_origin_type ON public.apflow_tasks USING btree (origin_type);
CREATE INDEX ix_apflow_tasks_original_task_id ON public.apflow_tasks USING btree (original_task_id);
CREATE INDEX ix_apflow_tasks_parent_id ON public.apflow_tasks USING btree (parent_id);
CREATE INDEX ix_apflow_tasks_schedule_enabled ON public.apflow_tasks USING btree (schedule_enabled);
CREATE INDEX ix_apflow_tasks_schedule_type ON public.apflow_tasks USING btree (schedule_type);
CREATE INDEX ix_apflow_tasks_status ON public.apflow_tasks USING btree (status);
CREATE INDEX ix_apflow_tasks_task_tree_id ON public.apflow_tasks USING btree (task_tree_id);
CREATE INDEX ix_apflow_tasks_user_id ON public.apflow_tasks USING btree (user_id);
