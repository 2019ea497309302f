SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.apflow_tasks (
    id character varying(255) NOT NULL,
    parent_id character varying(255),
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
    has_copy boolean
);
INSERT INTO public.apflow_tasks VALUES ('bbd1e1e5-1ef0-49b4-a820-6eabb6183bbe', NULL, 'alice', 'The task done', 'pending', 1, '[{"id": "9c5d55d9-3f84-44b5-b9da-4f07f968fa27", "required": true, "type": "result"}]', '{"done-b": {"command": "cat /dev/null", "return_code": 0, "stdout": "", "stderr": "", "success": true}}', '{}', NULL, NULL, '{"method": "aggregate_results_executor"}', 0.00, '2026-11-26 10:28:09.832339+00', NULL, '2026-11-26 10:28:09.916737+00', NULL, false, 'done', false);
INSERT INTO public.apflow_tasks VALUES ('failed', NULL, 'alice', 'The task failed', 'pending', 1, '[{"id": "failed-b", "required": true, "type": "result"}]', '{}', '{}', NULL, NULL, '{"method": "aggregate_results_executor"}', 0.00, '2026-11-26 10:28:06.979561+00', NULL, '2026-11-26 10:28:07.020416+00', NULL, true, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('failed-b', 'failed', 'alice', 'The task failed-b', 'pending', 1, '[{"id": "failed-a", "required": true, "type": "result"}, {"id": "failed-c", "required": true, "type": "result"}]', '{"command": "echo after"}', '{}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:06.994386+00', NULL, '2026-11-26 10:28:07.046044+00', NULL, false, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('failed-c', 'failed', 'alice', 'The task failed-c', 'pending', 1, 'null', '{"command": "echo beside"}', '{}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:07.001984+00', NULL, '2026-11-26 10:28:07.06106+00', NULL, false, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('9c5d55d9-3f84-44b5-b9da-4f07f968fa27', 'bbd1e1e5-1ef0-49b4-a820-6eabb6183bbe', 'alice', 'The task done-b', 'pending', 0, '[{"id": "8b57b7fe-1201-43f0-8ddb-98a0d8e4f143", "required": true, "type": "result"}]', '{"command": "cat /dev/null", "done-a": {"command": "echo \u00e4\u20ac\ud83d\ude00", "return_code": 0, "stdout": "\u00e4\u20ac\ud83d\ude00", "stderr": "", "success": true}}', '{}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:09.864923+00', NULL, '2026-11-26 10:28:09.937486+00', NULL, false, 'done-b', false);
INSERT INTO public.apflow_tasks VALUES ('new', NULL, 'bob', 'The task new', 'pending', 3, '[{"id": "new-a", "required": true, "type": "result"}]', '{}', '{}', NULL, NULL, '{"method": "aggregate_results_executor"}', 0.00, '2026-11-26 10:28:07.207647+00', NULL, '2026-11-26 10:28:07.258598+00', NULL, true, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('new-a', 'new', 'bob', 'The task new-a', 'pending', 1, 'null', '{"host": "example.com", "command": "ls", "nested": {"list": [1, 2.5, null, true, "x"]}}', '{"retries": 2}', NULL, NULL, '{"method": "ssh_executor"}', 0.00, '2026-11-26 10:28:07.233003+00', NULL, '2026-11-26 10:28:07.263804+00', NULL, false, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('8b57b7fe-1201-43f0-8ddb-98a0d8e4f143', 'bbd1e1e5-1ef0-49b4-a820-6eabb6183bbe', 'alice', 'The task done-a', 'pending', 1, '[]', '{"command": "echo \u00e4\u20ac\ud83d\ude00"}', '{"note": 9007199254740992}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:09.882457+00', NULL, '2026-11-26 10:28:09.954958+00', NULL, false, 'done-a', false);
INSERT INTO public.apflow_tasks VALUES ('running', NULL, 'alice', 'The task running', 'pending', 1, '[{"id": "running-a", "required": true, "type": "result"}]', '{}', '{}', NULL, NULL, '{"method": "aggregate_results_executor"}', 0.00, '2026-11-26 10:28:07.468939+00', NULL, '2026-11-26 10:28:07.499326+00', NULL, true, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('failed-a', 'failed', 'alice', 'The task failed-a', 'failed', 1, 'null', '{"method": "GET"}', '{}', NULL, '[rest_executor] url is required in inputs', '{"method": "rest_executor"}', 0.00, '2026-11-26 10:28:06.986526+00', '2026-11-26 10:28:08.50525+00', '2026-11-26 10:28:08.528775+00', '2026-11-26 10:28:08.544268+00', false, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('alone', NULL, NULL, 'The task alone', 'completed', 1, '[]', '{"command": "echo without an owner"}', '{}', '{"command": "echo without an owner", "return_code": 0, "stdout": "without an owner", "stderr": "", "success": true}', NULL, '{"method": "command_executor"}', 1.00, '2026-11-26 10:28:07.331571+00', '2026-11-26 10:28:09.626488+00', '2026-11-26 10:28:09.649669+00', '2026-11-26 10:28:09.692301+00', false, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('done-a', 'done', 'alice', 'The task done-a', 'completed', 1, 'null', '{"command": "echo \u00e4\u20ac\ud83d\ude00"}', '{"note": 9007199254740992}', '{"command": "echo \u00e4\u20ac\ud83d\ude00", "return_code": 0, "stdout": "\u00e4\u20ac\ud83d\ude00", "stderr": "", "success": true}', NULL, '{"method": "command_executor"}', 1.00, '2026-11-26 10:28:06.900951+00', '2026-11-26 10:28:07.626709+00', '2026-11-26 10:28:09.998483+00', '2026-11-26 10:28:07.692451+00', false, NULL, true);
INSERT INTO public.apflow_tasks VALUES ('done', NULL, 'alice', 'The task done', 'completed', 1, '[{"id": "done-b", "required": true, "type": "result"}]', '{"done-b": {"command": "cat /dev/null", "return_code": 0, "stdout": "", "stderr": "", "success": true}}', '{}', '{"summary": "Task Results Aggregation", "timestamp": "2026-11-26T10:28:07.885655+00:00", "results": {"done-b": {"command": "cat /dev/null", "return_code": 0, "stdout": "", "stderr": "", "success": true}}, "result_count": 1}', NULL, '{"method": "aggregate_results_executor"}', 1.00, '2026-11-26 10:28:06.886664+00', '2026-11-26 10:28:07.81382+00', '2026-11-26 10:28:09.969328+00', '2026-11-26 10:28:07.89004+00', true, NULL, true);
INSERT INTO public.apflow_tasks VALUES ('done-b', 'done', 'alice', 'The task done-b', 'completed', 0, '[{"id": "done-a", "required": true, "type": "result"}]', '{"command": "cat /dev/null", "done-a": {"command": "echo \u00e4\u20ac\ud83d\ude00", "return_code": 0, "stdout": "\u00e4\u20ac\ud83d\ude00", "stderr": "", "success": true}}', '{}', '{"command": "cat /dev/null", "return_code": 0, "stdout": "", "stderr": "", "success": true}', NULL, '{"method": "command_executor"}', 1.00, '2026-11-26 10:28:06.908805+00', '2026-11-26 10:28:07.734693+00', '2026-11-26 10:28:09.980723+00', '2026-11-26 10:28:07.775615+00', false, NULL, true);
INSERT INTO public.apflow_tasks VALUES ('stopped', NULL, 'alice', 'The task stopped', 'cancelled', 1, '[]', '{"command": "sleep 600"}', '{}', NULL, 'Enough', '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:07.406909+00', NULL, '2026-11-26 10:28:10.064928+00', '2026-11-26 10:28:10.072162+00', false, NULL, false);
INSERT INTO public.apflow_tasks VALUES ('running-a', 'running', 'alice', 'The task running-a', 'in_progress', 1, 'null', '{"command": "sleep 600"}', '{}', NULL, NULL, '{"method": "command_executor"}', 0.00, '2026-11-26 10:28:07.478521+00', '2026-11-26 10:28:10.183683+00', '2026-11-26 10:28:10.165737+00', NULL, false, NULL, false);
ALTER TABLE ONLY public.apflow_tasks
    ADD CONSTRAINT apflow_tasks_pkey PRIMARY KEY (id);
CREATE INDEX ix_apflow_tasks_has_copy ON public.apflow_tasks USING btree (has_copy);
CREATE INDEX ix_apflow_tasks_id ON public.apflow_tasks USING btree (id);
CREATE INDEX ix_apflow_tasks_name ON public.apflow_tasks USING btree (name);
CREATE INDEX ix_apflow_tasks_original_task_id ON public.apflow_tasks USING btree (original_task_id);
CREATE INDEX ix_apflow_tasks_parent_id ON public.apflow_tasks USING btree (parent_id);
CREATE INDEX ix_apflow_tasks_user_id ON public.apflow_tasks USING btree (user_id);
