{{/*
Certificates that the chart makes. An upgrade finds those of the last one with `lookup` and keeps them. (`helm
template` has no cluster to look into, and makes new ones each time.)
*/}}

{{/* The role's Secret. Arguments: root, role. */}}
{{- define "sanfran.tls.name" -}}
{{- if eq .role "sidecar" -}}
{{- include "sanfran.release" .root -}}
{{- else -}}
{{- include "sanfran.fullname" .root -}}
{{- end -}}
-{{ .role }}-tls
{{- end -}}

{{- define "sanfran.tls.namespace" -}}
{{- if eq .role "sidecar" -}}
{{- include "sanfran.functions.namespace" .root -}}
{{- else -}}
{{- .root.Release.Namespace -}}
{{- end -}}
{{- end -}}
