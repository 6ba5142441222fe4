# Python with what worker and relay require, in the locked versions: an image of its own, because it seldom changes.
ARG BASE
FROM ${BASE}
COPY . /wheels
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--no-index", "--no-deps", "--require-hashes", \
     "--find-links", "/wheels", "-r", "/wheels/requirements.txt"]
