{{/* The proxy's configuration: the value `config`, and the settings that the chart sets. */}}

{{/* Seconds of a duration such as 1h30m; argument: the text. The proxy also accepts days (1d); Go does not. */}}
{{- define "scope-proxy.seconds" -}}
{{- $days := regexFind "^[0-9]+d" . | trimSuffix "d" | default "0" | int64 -}}
{{- $rest := regexReplaceAll "^[0-9]+d" . "" | default "0s" -}}
{{- $start := toDate "2006-01-02" "2001-01-01" -}}
{{- add (mul $days 86400) (sub (unixEpoch (mustDateModify (printf "+%s" $rest) $start)) (unixEpoch $start)) -}}
{{- end -}}

{{- define "scope-proxy.shutdownGrace" -}}
{{- include "scope-proxy.seconds" (dig "timeouts" "shutdownGrace" "30s" .Values.config) -}}
{{- end -}}

{{- define "scope-proxy.terminationGrace" -}}
{{- if .Values.terminationGracePeriodSeconds -}}
{{ int .Values.terminationGracePeriodSeconds }}
{{- else -}}
{{ add (include "scope-proxy.shutdownGrace" .) 10 }}
{{- end -}}
{{- end -}}

{{/* "true" if the configuration has credentials: every client of a listener without authentication uses them. */}}
{{- define "scope-proxy.hasCredentials" -}}
{{- if or .Values.dockerConfigSecrets .Values.config.dockerConfigFiles -}}true{{- end -}}
{{- range .Values.config.hosts }}{{ if .credentials }}true{{ end }}{{ end -}}
{{- end -}}

{{- define "scope-proxy.nodeListener" -}}
{{- if eq .Values.node.exposure "hostNetwork" -}}
address: {{ printf "127.0.0.1:%d" (int .Values.node.port) | quote }}
clients: {auth: none}
{{- else -}}
address: {{ printf "0.0.0.0:%d" (int .Values.node.port) | quote }}
clients: {auth: none, allowAnonymous: true} # the NetworkPolicy allows only the node
{{- end -}}
{{- end -}}

{{- define "scope-proxy.centralListener" -}}
address: {{ printf "0.0.0.0:%d" (int .Values.central.port) | quote }}
clients:
  {{- toYaml .Values.central.clients | nindent 2 }}
{{- if .Values.tls.enabled }}
tls:
  certFile: /etc/scope-proxy/tls/tls.crt
  keyFile: /etc/scope-proxy/tls/tls.key
  {{- if .Values.tls.clientCA.existingSecret }}
  clientCaFile: /etc/scope-proxy/client-ca/{{ .Values.tls.clientCA.key }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* "true" if a monitor makes Prometheus collect the metrics of the proxies. */}}
{{- define "scope-proxy.isMonitored" -}}
{{- if or .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}true{{ end -}}
{{- end -}}

{{/* Address of a node's proxy for metrics and health without the status page; empty for none. A pod in its node's network
     gets the node's address from Kubernetes; in brackets it may be IPv4 or IPv6. */}}
{{- define "scope-proxy.nodeMetrics" -}}
{{- $node := .Values.node -}}
{{- if ne $node.exposure "hostNetwork" -}}
:{{ int $node.metricsPort }}
{{- else if or $node.metricsAddress (include "scope-proxy.isMonitored" .) -}}
[{{ $node.metricsAddress | default "$(HOST_IP)" }}]:{{ int $node.metricsPort }}
{{- end -}}
{{- end -}}

{{/* A complete configuration; arguments: root, listener (text), adminPort, size (of the cache; empty for none),
     keep (images to pin). */}}
{{- define "scope-proxy.config" -}}
{{- $config := deepCopy .root.Values.config -}}
{{- $_ := set $config "listeners" (list (fromYaml .listener)) -}}
{{- $_ := set $config "admin" (dict "address" (printf "127.0.0.1:%d" (int .adminPort))) -}}
{{- if .size -}}
{{- $_ := set $config "cache" (merge (dict "path" "/var/cache/scope-proxy/store" "maxSize" .size) ($config.cache | default dict)) -}}
{{- with .keep -}}
{{- $_ := set $config.cache "keep" (concat ($config.cache.keep | default list) .) -}}
{{- end -}}
{{- else -}}
{{- $_ := unset $config "cache" -}}
{{- end -}}
{{- with .root.Values.dockerConfigSecrets -}}
{{- $files := $config.dockerConfigFiles | default list -}}
{{- range . }}{{ $files = append $files (printf "/etc/scope-proxy/docker/%s/config.json" .) }}{{ end -}}
{{- $_ := set $config "dockerConfigFiles" $files -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The configuration of node pods, and that of central pods. */}}
{{- define "scope-proxy.nodeConfig" -}}
{{- $size := ternary "" .Values.node.cache.maxSize (eq .Values.node.cache.type "none") -}}
{{- include "scope-proxy.config" (dict "root" . "listener" (include "scope-proxy.nodeListener" .) "adminPort" .Values.node.adminPort "size" $size) -}}
{{- end -}}

{{- define "scope-proxy.centralConfig" -}}
{{- include "scope-proxy.config" (dict "root" . "listener" (include "scope-proxy.centralListener" .) "adminPort" .Values.central.adminPort "size" .Values.central.cacheSize "keep" (ternary .Values.prefetch.images list .Values.prefetch.pinned)) -}}
{{- end -}}

{{/* Hash of the settings that take effect only after a restart; argument: a configuration as text. */}}
{{- define "scope-proxy.restartHash" -}}
{{- include "scope-proxy.restartSettings" (fromYaml .) | sha256sum | trunc 16 | quote -}}
{{- end -}}
