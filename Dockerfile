# Two stages: one to build, one with only the runtime dependencies.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements/all.txt requirements/all.txt
RUN python -m venv /opt/aipartnerupflow \
    && /opt/aipartnerupflow/bin/pip install --no-cache-dir --require-hashes -r requirements/all.txt
COPY requirements/build.txt requirements/build.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY aipartnerupflow aipartnerupflow
COPY apflow_site apflow_site
COPY a2a a2a
COPY tasks tasks
COPY accounts accounts
COPY llmkeys llmkeys
COPY templates templates
RUN python -m hatchling build -t wheel -d /wheels \
    && /opt/aipartnerupflow/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home apflow && install -d -o apflow -g apflow /data
COPY --from=build /opt/aipartnerupflow /opt/aipartnerupflow
ENV PATH=/opt/aipartnerupflow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AIPARTNERUPFLOW_DATA_DIR=/data
USER 10001
WORKDIR /home/apflow
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=10s --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
# After SIGTERM, running tasks finish: allow slightly more than worker.drain_seconds (docker stop --time 40).
CMD ["aipartnerupflow-server", "--host", "0.0.0.0", "--port", "8000"]
