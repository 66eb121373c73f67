{{/* Names and labels. */}}

{{- define "scope-proxy.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "scope-proxy.fullname" -}}
{{- $name := include "scope-proxy.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "scope-proxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "scope-proxy.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods of one component; argument: dict "root" . "component" NAME. */}}
{{- define "scope-proxy.selector" -}}
app.kubernetes.io/name: {{ include "scope-proxy.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "scope-proxy.labels" -}}
{{ include "scope-proxy.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object; arguments: root, component, and optionally suffix, labels and annotations. */}}
{{- define "scope-proxy.metadata" -}}
name: {{ include "scope-proxy.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "scope-proxy.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "scope-proxy.image" -}}
{{- $image := .Values.image -}}
{{- $name := printf "%s/%s" (trimSuffix "/" $image.registry) $image.repository -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* "true" if the release has node pods, or central instances. */}}
{{- define "scope-proxy.hasNode" -}}{{ if ne .Values.mode "central" }}true{{ end }}{{- end -}}
{{- define "scope-proxy.hasCentral" -}}{{ if ne .Values.mode "node" }}true{{ end }}{{- end -}}

{{/* "true" if the cluster has at least a version of Kubernetes; arguments: root and version. */}}
{{- define "scope-proxy.atLeast" -}}
{{- $version := .root.Values.kubeVersion | default .root.Capabilities.KubeVersion.Version -}}
{{- if semverCompare (printf ">=%s-0" .version) $version }}true{{ end -}}
{{- end -}}

{{- define "scope-proxy.tlsSecret" -}}
{{- if .Values.tls.existingSecret -}}
{{ .Values.tls.existingSecret }}
{{- else -}}
{{ include "scope-proxy.fullname" . }}-tls
{{- end -}}
{{- end -}}
