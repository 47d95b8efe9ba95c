# An MCP server that is a package of PyPI, at one exact version.
FROM {{base}}
USER 0:0
{{args}}COPY .toolcrib/ /opt/toolcrib/
RUN if [ -f /opt/toolcrib/ca.pem ]; then export PIP_CERT=/opt/toolcrib/ca.pem; fi \
 && python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check {{package}}
WORKDIR /tmp
# Runs as nobody, on a read-only root, with only /tmp to write to.
ENV HOME=/tmp PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
ENTRYPOINT {{entrypoint}}
CMD []
