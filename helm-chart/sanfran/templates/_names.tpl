{{/* Names and labels. Nothing here may be equal for two releases that can meet in one namespace. */}}

{{/* At most 35 characters: Kubernetes adds up to 28 to it for the controllers' pods, whose names are labels' values. */}}
{{- define "sanfran.fullname" -}}
{{- $name := .Release.Name -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if not (contains "sanfran" .Release.Name) -}}
{{- $name = printf "%s-sanfran" .Release.Name -}}
{{- end -}}
{{- include "sanfran.short" (dict "name" ($name | replace "." "-") "most" 35) -}}
{{- end -}}

{{/* A name cut to .most characters; one that is cut ends with a hash of the whole. */}}
{{- define "sanfran.short" -}}
{{- if gt (len .name) (int .most) -}}
{{- printf "%s-%s" (trunc (int (sub .most 9)) .name | trimSuffix "-") (sha256sum .name | trunc 8) -}}
{{- else -}}
{{- .name -}}
{{- end -}}
{{- end -}}

{{/* Where function pods live. */}}
{{- define "sanfran.functions.namespace" -}}
{{- .Values.functions.namespace | default .Release.Namespace -}}
{{- end -}}

{{/*
This release, for everything outside its own namespace, where another of the same name may be: label
sanfran.dev/release, and the names of objects in the functions' namespace. No namespace has a dot in its name,
so that two releases never share one.
*/}}
{{- define "sanfran.release" -}}
{{- if eq (include "sanfran.functions.namespace" .) .Release.Namespace -}}
{{- include "sanfran.fullname" . -}}
{{- else -}}
{{- include "sanfran.short" (dict "name" (printf "%s.%s" .Release.Namespace (include "sanfran.fullname" .)) "most" 50) -}}
{{- end -}}
{{- end -}}

{{/*
What pods of a component are found by. In the release's own namespace its name is enough, and stays the same for as
long as Deployments live, whose selectors cannot change. Function pods may share theirs. Arguments: root, component.
*/}}
{{- define "sanfran.selector" -}}
app.kubernetes.io/name: sanfran
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- if eq .component "function" }}
sanfran.dev/release: {{ include "sanfran.release" .root }}
{{- end }}
{{- end -}}

{{/* Every label of an object. Arguments: root, component. */}}
{{- define "sanfran.labels" -}}
{{ include "sanfran.selector" . }}
{{- if ne .component "function" }}
sanfran.dev/release: {{ include "sanfran.release" .root }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sanfran
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Reference of an image. Arguments: root, name. */}}
{{- define "sanfran.image" -}}
{{- $image := .root.Values.image -}}
{{- printf "%s%s%s:%s" (ternary "" (printf "%s/" (trimSuffix "/" $image.registry)) (empty $image.registry)) $image.prefix .name ($image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{/*
Labels of a component's pods: those of values first, so that none of the chart's is lost. No version, so that a
chart of another version with the same pods restarts nothing. Arguments: root, component, values.
*/}}
{{- define "sanfran.pod-labels" -}}
{{- with .values.podLabels }}
{{- omit . "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "sanfran.dev/release" "app.kubernetes.io/part-of" "sanfran.dev/metrics" | toYaml | nindent 0 }}
{{- end }}
{{ include "sanfran.selector" . }}
sanfran.dev/release: {{ include "sanfran.release" .root }}
app.kubernetes.io/part-of: sanfran
sanfran.dev/metrics: services
{{- end -}}

{{/* Where callers reach the router. */}}
{{- define "sanfran.public-url" -}}
{{- if .Values.api.publicUrl -}}
{{- .Values.api.publicUrl -}}
{{- else if and .Values.ingress.enabled .Values.ingress.host (not (hasPrefix "*" .Values.ingress.host)) -}}
{{- ternary "http" "https" (empty .Values.ingress.tlsSecret) -}}://{{ .Values.ingress.host }}
{{- else if and .Values.gateway.enabled .Values.gateway.hostnames (not (hasPrefix "*" (first .Values.gateway.hostnames))) -}}
http://{{ first .Values.gateway.hostnames }}
{{- else -}}
http://{{ include "sanfran.fullname" . }}-router.{{ .Release.Namespace }}{{ ternary "" (printf ":%v" .Values.router.service.port) (eq (int .Values.router.service.port) 80) }}
{{- end -}}
{{- end -}}

{{/*
Whether people reach REST through an Ingress or a Gateway: then the address of a caller is the last one in what that
writes to X-Forwarded-For. Else all callers had one address, the proxy's, and somebody's wrong passwords would keep all of them out.
*/}}
{{- define "sanfran.api-proxied" -}}
{{- if or (and .Values.ingress.enabled .Values.ingress.api) (and .Values.gateway.enabled .Values.gateway.api) }}true{{ end -}}
{{- end -}}

{{/* Names under which REST may be called: others are refused, against pages that rebind their name's address. */}}
{{- define "sanfran.allowed-hosts" -}}
{{- $named := list -}}
{{- $service := printf "%s-api" (include "sanfran.fullname" .) -}}
{{- $hosts := list $service (printf "%s.%s" $service .Release.Namespace) (printf "%s.%s.svc" $service .Release.Namespace) (printf "%s.%s.svc.cluster.local" $service .Release.Namespace) -}}
{{- if and .Values.ingress.enabled .Values.ingress.api .Values.ingress.host -}}
{{- $hosts = append $hosts .Values.ingress.host -}}
{{- end -}}
{{- if and .Values.gateway.enabled .Values.gateway.api -}}
{{- $hosts = concat $hosts .Values.gateway.hostnames -}}
{{- end -}}
{{- range concat $hosts .Values.api.allowedHosts | uniq -}}
{{- if not (hasPrefix "*" .) }}{{ $named = append $named . }}{{ end -}}
{{- end -}}
{{- $named | join "," -}}
{{- end -}}
