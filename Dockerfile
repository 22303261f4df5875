# mcnlab with CUDA, JupyterLab on port 8888, as a user without rights over the machine.
#   docker build -t mcnlab .
#   docker run --gpus all --ipc=host -p 127.0.0.1:8888:8888 -e JUPYTER_TOKEN="$(openssl rand -hex 24)" -v "$PWD/work:/home/mcnlab/work" mcnlab
# Any other command instead of JupyterLab:  docker run … mcnlab mcnlab doctor
# On a machine without GPUs:  docker build --build-arg BASE=python:3.11-slim-bookworm --build-arg EXTRAS=cpu,resnet,cluster --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
# Not built by the authors: no Docker daemon on the machine where mcnlab is made. Checked there: hadolint 2.15.1 without a
# word; `pip install --dry-run` of both steps; that what is copied is enough for a wheel (tests/test_environments.py).
ARG BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04
FROM ${BASE}

ARG EXTRAS=gpu,resnet,cluster
ARG TORCH_INDEX=https://pypi.org/simple
ARG NB_USER=mcnlab
ARG NB_UID=1000

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# torch of PyPI brings its CUDA 13.0 along; the base holds what that expects of the system
# Python where the base has none; git, since a run's provenance names the commit of a checkout that is mounted
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates curl git tini \
    && (command -v python3 >/dev/null && python3 -c "import venv, ensurepip" \
        || DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv) \
    && rm -rf /var/lib/apt/lists/*

# The uid 1000 of Ubuntu's own user is taken over, so that files in mounted folders belong to whom they belong outside
RUN (getent passwd "${NB_UID}" | cut -d: -f1 | xargs -r userdel -r 2>/dev/null || true) \
    && useradd --create-home --shell /bin/bash --uid "${NB_UID}" "${NB_USER}"

ENV VIRTUAL_ENV=/opt/mcnlab \
    PATH=/opt/mcnlab/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    NUMBA_CACHE_DIR=/tmp/numba

RUN python3 -m venv "${VIRTUAL_ENV}" && chown -R "${NB_UID}" "${VIRTUAL_ENV}"

USER ${NB_UID}
WORKDIR /home/${NB_USER}

# torch first: the large layer stays when only our own code changes
COPY --chown=${NB_UID} constraints.txt /tmp/constraints.txt
RUN pip install -c /tmp/constraints.txt --index-url "${TORCH_INDEX}" --extra-index-url https://pypi.org/simple torch

COPY --chown=${NB_UID} . /tmp/source
RUN pip install -c /tmp/constraints.txt "/tmp/source[${EXTRAS}]" \
    && rm -rf /tmp/source \
    && mcnlab --version \
    && python -c "from mcnlab.reporting.projection import compile_ahead; compile_ahead()"

RUN mkdir -p work
WORKDIR /home/${NB_USER}/work
EXPOSE 8888

# A server that asks for a login is well: 403 without the token is an answer, too
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["curl", "--silent", "--output", "/dev/null", "--max-time", "4", "http://127.0.0.1:8888/api"]

# Inside of the container all addresses are needed; which of them is seen from outside is told by -p. Without a token of
# 16 characters or more in JUPYTER_TOKEN or JUPYTER_TOKEN_FILE, and without a password, it refuses to start.
ENTRYPOINT ["tini", "-g", "--"]
CMD ["mcnlab", "lab", "--public", "--port", "8888"]
