# Every program of evcharge: `docker run IMAGE central ...`, `docker run IMAGE monitor ...`
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir . \
 && useradd --uid 10001 --create-home evcharge \
 && install --directory --owner=evcharge /data

USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 5000 8080
ENTRYPOINT ["evcharge"]
CMD ["--help"]
