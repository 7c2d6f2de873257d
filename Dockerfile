# The page of `funcnn serve` in a container:
#
#   docker build -t funcnn .
#   docker run --rm -p 127.0.0.1:8000:8000 funcnn
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs:/runs:ro" funcnn /runs/digits_cnn/model.safetensors
#
# Then open http://localhost:8000/. Within the container it listens at 0.0.0.0, or else nothing outside would reach it:
# it is `-p 127.0.0.1:...` that keeps it on this machine.

FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[web]" && rm -r /wheels \
    && useradd --no-create-home --uid 10001 funcnn
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/api/model', timeout=4)"]
ENTRYPOINT ["funcnn", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["mnist_cnn"]
