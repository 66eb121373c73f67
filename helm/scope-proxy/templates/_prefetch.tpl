{{/* What downloads images into the caches of the central instances in advance. */}}

{{/* "true" where images are downloaded in advance. */}}
{{- define "scope-proxy.prefetches" -}}
{{- if and (.Values.prefetch | default dict).images (include "scope-proxy.hasCentral" .) }}true{{ end -}}
{{- end -}}

{{/* Arguments of the program. Each instance has a cache of its own: the Service for all of them would pick one for each
     connection, so every address of the headless Service is used. Certificates name the Service. */}}
{{- define "scope-proxy.prefetchArguments" -}}
{{- $central := .Values.central -}}
{{- $host := include "scope-proxy.fullname" . -}}
{{- $instances := ternary (int $central.autoscaling.minReplicas) (int $central.replicas) $central.autoscaling.enabled -}}
- cache
- prefetch
- --through={{ ternary "https" "http" .Values.tls.enabled }}://{{ $host }}.{{ .Release.Namespace }}:{{ int $central.port }}
- --instances={{ $host }}-instances.{{ .Release.Namespace }}
- --count={{ $instances }}
- --wait={{ int .Values.prefetch.wait }}
{{- if and .Values.tls.enabled .Values.tls.caKey }}
- --ca-file=/etc/scope-proxy/authority/ca.crt
{{- end }}
{{- if .Values.prefetch.loginSecret }}
- --password-file=/etc/scope-proxy/login/password
{{- end }}
{{- if .Values.prefetch.certificateSecret }}
- --cert-file=/etc/scope-proxy/client/tls.crt
- --key-file=/etc/scope-proxy/client/tls.key
{{- end }}
{{- range .Values.prefetch.platforms }}
- --platform={{ . }}
{{- end }}
{{- range .Values.prefetch.images }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The files of its pod; arguments: root, and kind (mounts or volumes). Of the instances' Secret it gets the CA alone. */}}
{{- define "scope-proxy.prefetchFiles" -}}
{{- $values := .root.Values -}}
{{- $sources := dict -}}
{{- if and $values.tls.enabled $values.tls.caKey -}}
{{- $items := list (dict "key" $values.tls.caKey "path" "ca.crt") -}}
{{- $_ := set $sources "authority" (dict "secretName" (include "scope-proxy.tlsSecret" .root) "defaultMode" 288 "items" $items) -}}
{{- end -}}
{{- with $values.prefetch.loginSecret -}}
{{- $items := list (dict "key" "password" "path" "password") -}}
{{- $_ := set $sources "login" (dict "secretName" . "defaultMode" 288 "items" $items) -}}
{{- end -}}
{{- with $values.prefetch.certificateSecret -}}
{{- $_ := set $sources "client" (dict "secretName" . "defaultMode" 288) -}}
{{- end -}}
{{- $kind := .kind -}}
{{- with $sources }}
{{- if eq $kind "volumes" }}
volumes:
  {{- range $name, $secret := . }}
  - {{ dict "name" $name "secret" $secret | toJson }} # mode 0440
  {{- end }}
{{- else }}
volumeMounts:
  {{- range $name, $_ := . }}
  - {name: {{ $name }}, mountPath: /etc/scope-proxy/{{ $name }}, readOnly: true}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The specification of a Job. */}}
{{- define "scope-proxy.prefetchJob" -}}
backoffLimit: 2
activeDeadlineSeconds: {{ int .Values.prefetch.deadline }}
template:
  metadata:
    labels:
      {{- include "scope-proxy.labels" (dict "root" . "component" "prefetch") | nindent 6 }}
  spec:
    {{- include "scope-proxy.podBase" . | nindent 4 }}
    restartPolicy: Never
    securityContext:
      {{- include "scope-proxy.podSecurityContext" . | nindent 6 }}
    {{- include "scope-proxy.placement" (pick .Values.central "tolerations" "nodeSelector") | trim | nindent 4 }}
    containers:
      - name: prefetch
        image: {{ include "scope-proxy.image" . | quote }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        args:
          {{- include "scope-proxy.prefetchArguments" . | nindent 10 }}
        {{- with .Values.prefetch.loginSecret }}
        env:
          - {name: SCOPE_PROXY_USERNAME, valueFrom: {secretKeyRef: {name: {{ . }}, key: username}}}
        {{- end }}
        securityContext:
          {{- include "scope-proxy.securityContext" . | nindent 10 }}
        resources:
          {{- toYaml .Values.prefetch.resources | nindent 10 }}
        {{- include "scope-proxy.prefetchFiles" (dict "root" . "kind" "mounts") | trim | nindent 8 }}
    {{- include "scope-proxy.prefetchFiles" (dict "root" . "kind" "volumes") | trim | nindent 4 }}
{{- end -}}
