{{/* What the pods of all services have in common. */}}

{{/*
Settings as environment variables. A number of Helm is a float: whole ones must not become 8.589e+09.
Arguments: prefix such as SANFRAN_ROUTER, settings (names of flags without dashes in front).
*/}}
{{- define "sanfran.settings" -}}
{{- $prefix := .prefix -}}
{{- range $name, $value := .settings }}
- name: {{ $prefix }}_{{ $name | replace "-" "_" | upper }}
  value: {{ include "sanfran.value" $value | quote }}
{{- end -}}
{{- end -}}

{{- define "sanfran.value" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* Logs as machines read them, and the admin port. Arguments: root, prefix. */}}
{{- define "sanfran.common-settings" -}}
- name: {{ .prefix }}_ADMIN
  value: 0.0.0.0:9090
- name: {{ .prefix }}_LOG_FORMAT
  value: {{ .root.Values.log.format }}
- name: {{ .prefix }}_LOG_LEVEL
  value: {{ .root.Values.log.level }}
- name: {{ .prefix }}_TLS_DIR
  value: /etc/sanfran/tls
{{- end -}}

{{/* Pod Security "restricted". Arguments: uid. */}}
{{- define "sanfran.pod-security" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
fsGroup: {{ .uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sanfran.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Ready says whether it may be asked; healthy, whether its event loop turns at all. */}}
{{- define "sanfran.probes" -}}
startupProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* Where a component's pods go. Arguments: root, component, values. */}}
{{- define "sanfran.scheduling" -}}
{{- with .values.priorityClassName | default (ternary (printf "%s-services" (include "sanfran.cluster-name" .root)) "" .root.Values.priorityClasses.create) }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sanfran.selector" (dict "root" .root "component" .component) | nindent 8 }}
{{- end -}}

{{/* A cluster-wide name of this release. */}}
{{- define "sanfran.cluster-name" -}}
{{- include "sanfran.short" (dict "name" (printf "%s.%s" .Release.Namespace (include "sanfran.fullname" .)) "most" 50) -}}
{{- end -}}

{{/*
Whether templates are rendered for a cluster that can be asked. `helm template` knows the groups and
versions of Kubernetes by itself, but no kinds.
*/}}
{{- define "sanfran.live" -}}
{{- if .Capabilities.APIVersions.Has "v1/Pod" }}true{{ end -}}
{{- end -}}

{{/* Fails where a kind is asked for that the cluster does not know. Arguments: root, kind (group/version/Kind), value, needs. */}}
{{- define "sanfran.need-kind" -}}
{{- if and (include "sanfran.live" .root) (not (.root.Capabilities.APIVersions.Has .kind)) -}}
{{- fail (printf "\n\n%s asks for %s, which this cluster does not know. Install %s first, or leave the value as it is by default.\n" .value .kind .needs) -}}
{{- end -}}
{{- end -}}

{{/* Seconds from the order to stop until the process must be gone. Arguments: settings. */}}
{{- define "sanfran.grace" -}}
{{- $delay := index . "stop-delay" | default 0 | float64 -}}
{{- $grace := index . "stop-grace" | default 5 | float64 -}}
{{- addf $delay $grace 10 | ceil | int -}}
{{- end -}}
