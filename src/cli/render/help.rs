//! What `portolan render --help` teaches.

pub(super) const CONSUL_TEMPLATE: &str = "\
Renders files from services and keys, and tells their readers. Takes the flags, configuration files
and variables of consul-template as they are; also when the binary is called `consul-template`.

Usage: portolan render [flags]                       as consul-template
       portolan render --confd DIR [flags]           as confd
       portolan render --config portolan.toml [--once|--dry|--diff|--parse-only]
       portolan migrate consul-template [flags]      shows the portolan.toml that does the same

  portolan render -consul-addr 127.0.0.1:8500 \\
      -template \"nginx.ctmpl:/etc/nginx/conf.d/app.conf:nginx -s reload\"
  portolan render -config /etc/consul-template.d -once
  portolan render -config /etc/consul-template.d -diff

Flags are written with one dash or two, as -name=value or -name value.

How it runs
  -config=PATH                  file or directory of HCL or JSON; repeatable, a later one wins
  -template=SRC:DEST[:COMMAND]  one more template; repeatable
  -once                         renders everything once, and exits
  -dry                          prints what the files would say; writes and runs nothing
  -diff                         shows what would change as a unified diff; exits with 1 if something
  -parse-only                   reads configuration and templates, and exits
  -wait=MIN[:MAX]               gathers changes for MIN after the last one, at most for MAX
  -exec=COMMAND                 a child that is started when all files are there; its end is ours
  -exec-kill-signal=SIGNAL  -exec-kill-timeout=TIME  -exec-reload-signal=SIGNAL  -exec-splay=TIME
  -default-left-delimiter=TEXT  -default-right-delimiter=TEXT
  -log-level=LEVEL              trace, debug, info, warn (default) or err
  -pid-file=PATH  -kill-signal=SIGNAL  -reload-signal=SIGNAL
  -data-dir=PATH                keeps what was known last, and reloads that are due, over a restart
  -admin=ADDRESS                status and metrics by HTTP; without it nothing is listened on

Consul
  -consul-addr=ADDRESS          default 127.0.0.1:8500, or CONSUL_HTTP_ADDR
  -consul-token=TOKEN  -consul-token-file=PATH  -consul-auth=USER[:PASSWORD]  -consul-namespace=NAME
  -consul-ssl  -consul-ssl-ca-cert=PATH  -consul-ssl-ca-path=PATH  -consul-ssl-cert=PATH
  -consul-ssl-key=PATH  -consul-ssl-server-name=NAME  -consul-ssl-verify=BOOL
  -max-stale=TIME  -block-query-wait=TIME  -consul-retry-attempts=N and others: see below
  CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_HTTP_AUTH, CONSUL_HTTP_SSL, CONSUL_CACERT … count too.

Flags of old releases are known: -consul, -token, -auth, -retry, -ssl, -ssl-verify, -splay …
Those of Vault and Nomad are taken and have no effect; their functions make a template fail.
-syslog, -dedup, -log-file and a few others are taken, and a line of the log says why they have no
effect. docs/consul-template.md has the table.

Signals: SIGHUP reads everything again, SIGINT ends with 12, SIGTERM with 0. With a child, SIGTERM and
all others go to the child, and its end is ours.
Exit codes: 0 well; 12 interrupted; 13 the command line, 14 a template or command, 15 the
configuration is wrong; with a child, the child's.
";
