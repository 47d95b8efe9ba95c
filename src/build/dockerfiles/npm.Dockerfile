# An MCP server that is a package of npm, at one exact version.
FROM {{base}}
USER 0:0
{{args}}COPY .toolcrib/ /opt/toolcrib/
RUN if [ -f /opt/toolcrib/ca.pem ]; then \
      export NPM_CONFIG_CAFILE=/opt/toolcrib/ca.pem NODE_EXTRA_CA_CERTS=/opt/toolcrib/ca.pem; \
    fi \
 && npm install --global --prefix /opt/package --omit=dev --no-audit --no-fund --no-update-notifier {{package}} \
 && npm cache clean --force{{link}}
WORKDIR /tmp
# Runs as nobody, on a read-only root, with only /tmp to write to.
ENV HOME=/tmp NODE_ENV=production \
    PATH=/opt/package/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 65534:65534
ENTRYPOINT {{entrypoint}}
CMD []
