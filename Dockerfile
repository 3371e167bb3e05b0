# Three images from one file: `service` serves models and has no TensorFlow, `service-arrow` is the same with
# pyarrow, for Arrow streams and Parquet files, `training` makes models.
# Builds on engines from 20.10 on; needs no registry but that of the base image.
FROM python:3.11-slim-bookworm AS base
ENV LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PATH=/opt/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    ORT_DISABLE_TELEMETRY=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MALLOC_ARENA_MAX=2
# The root file system is read-only later, so the standard library is compiled once, here.
RUN python -m compileall -q -x '/(site-packages|test|idlelib|lib2to3)/' /usr/local/lib/python3.11 \
 && groupadd --gid 10001 residual \
 && useradd --uid 10001 --gid residual --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin residual \
 && install --directory --owner residual --group residual /models
WORKDIR /app

FROM base AS service-packages
COPY requirements/service.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
 && /usr/local/bin/python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM base AS service-arrow-packages
COPY requirements/service-arrow.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
 && /usr/local/bin/python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM base AS training-packages
COPY requirements/training.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
 && /usr/local/bin/python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM base AS training
# TensorFlow and Matplotlib want a home that they can write to.
ENV HOME=/tmp
COPY --from=training-packages /opt/venv /opt/venv
COPY detector detector
COPY training training
RUN python -m compileall -q detector training
# Both images carry the ready-made model: the one that meets an empty volume first seeds it.
COPY --chown=residual:residual models/digits /models/digits
USER residual
ENTRYPOINT ["python", "-m", "training.fit", "--store", "/models"]

# What both services share: everything but their packages.
FROM base AS serving
ENV HOME=/nonexistent \
    RESIDUAL_STORE=/models \
    RESIDUAL_BIND=0.0.0.0:8000
COPY detector detector
COPY service service
COPY deploy/gunicorn.conf.py deploy/gunicorn.conf.py
# The service reads its version from there, since nothing of it is installed.
COPY pyproject.toml pyproject.toml
RUN python -m compileall -q detector service
COPY --chown=residual:residual models/digits /models/digits
USER residual
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["gunicorn", "-c", "deploy/gunicorn.conf.py"]

FROM serving AS service-arrow
COPY --from=service-arrow-packages /opt/venv /opt/venv

# Last, so that `docker build .` without a target makes the service.
FROM serving AS service
COPY --from=service-packages /opt/venv /opt/venv
