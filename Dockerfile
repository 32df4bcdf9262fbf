# Every program of evcharge: `docker run IMAGE central ...`, `docker run IMAGE monitor ...`
FROM python:3.13-slim AS build

WORKDIR /src
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.13-slim

COPY requirements-runtime.lock /tmp/
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements-runtime.lock \
 && pip install --no-cache-dir --no-deps /tmp/wheels/*.whl \
 && rm -r /tmp/requirements-runtime.lock /tmp/wheels \
 && useradd --uid 10001 --create-home evcharge \
 && install --directory --owner=evcharge /data

USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 5000 8080
ENTRYPOINT ["evcharge"]
CMD ["--help"]
