# A FastMCP server from a Git repository. The context is the tree of one commit, `.toolcrib` is ours.
FROM {{base}}
USER 0:0
{{args}}COPY .toolcrib/ /opt/toolcrib/
COPY . /app/
# Installs what the repository asks for into /opt/venv; its lock file wins.
RUN rm -rf /app/.toolcrib && sh /opt/toolcrib/install.sh /app
WORKDIR /app
# Runs as nobody, on a read-only root, with only /tmp to write to.
ENV HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 FASTMCP_CHECK_FOR_UPDATES=off
USER 65534:65534
ENTRYPOINT {{entrypoint}}
CMD []
