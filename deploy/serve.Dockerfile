# `segtune serve` alone. The context is the project's folder:
#
#   docker build -f deploy/serve.Dockerfile -t segtune-serve .
#
# PIP_ARGS may name an index with CPU builds of torch, which are a tenth as large.
FROM python:3.12-slim
ARG PIP_ARGS=""
COPY . /src
RUN pip install --no-cache-dir $PIP_ARGS -c /src/requirements.lock "/src[postgres]" && rm -r /src
RUN useradd --create-home segtune
USER segtune
WORKDIR /home/segtune
# a volume that is mounted here takes over the owner
RUN mkdir jobs
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["segtune", "serve", "host=0.0.0.0"]
