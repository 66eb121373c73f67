{{/* Made by `make reference` from the marks in proxy/config: the settings that only a restart changes, with their
     defaults. Their hash is an annotation of the pods, so that a change replaces them. Argument: a configuration. */}}
{{- define "scope-proxy.restartSettings" -}}
admin.address: {{ dig "address" "127.0.0.1:5007" (dig "admin" dict . | default dict) | toJson }}
admin.metricsAddress: {{ dig "metricsAddress" "" (dig "admin" dict . | default dict) | toJson }}
workers: {{ dig "workers" 1 . | toJson }}
timeouts.request: {{ dig "request" "10s" (dig "timeouts" dict . | default dict) | toJson }}
timeouts.clientStall: {{ dig "clientStall" "5m" (dig "timeouts" dict . | default dict) | toJson }}
timeouts.slowClient: {{ dig "slowClient" "1m" (dig "timeouts" dict . | default dict) | toJson }}
timeouts.shutdownGrace: {{ dig "shutdownGrace" "30s" (dig "timeouts" dict . | default dict) | toJson }}
timeouts.drainIdle: {{ dig "drainIdle" "3s" (dig "timeouts" dict . | default dict) | toJson }}
limits.connections: {{ dig "connections" 4096 (dig "limits" dict . | default dict) | toJson }}
limits.requests: {{ dig "requests" 2048 (dig "limits" dict . | default dict) | toJson }}
limits.minReadRate: {{ dig "minReadRate" "16Ki/s" (dig "limits" dict . | default dict) | toJson }}
tracing.endpoint: {{ dig "endpoint" "" (dig "tracing" dict . | default dict) | toJson }}
tracing.sampleRatio: {{ dig "sampleRatio" 0.1 (dig "tracing" dict . | default dict) | toJson }}
{{- range .listeners }}
listeners[].address: {{ dig "address" "" . | toJson }}
listeners[].tls.certFile: {{ dig "certFile" "" (dig "tls" dict . | default dict) | toJson }}
listeners[].tls.keyFile: {{ dig "keyFile" "" (dig "tls" dict . | default dict) | toJson }}
listeners[].tls.clientCaFile: {{ dig "clientCaFile" "" (dig "tls" dict . | default dict) | toJson }}
listeners[].clients.auth: {{ with dig "auth" (list "none") (dig "clients" dict . | default dict) }}{{ has "certificate" (ternary (list .) . (kindIs "string" .)) }} {{ eq (toJson (ternary (list .) . (kindIs "string" .))) (toJson (list "certificate")) }}{{ end }}
{{- end }}
{{- end -}}
