{{/* Parts of NetworkPolicies. */}}

{{/* A component's pods, wherever they are. Arguments: root, component. */}}
{{- define "sanfran.policy.peer" -}}
{{- $namespace := .root.Release.Namespace -}}
{{- if eq .component "function" -}}
{{- $namespace = include "sanfran.functions.namespace" .root -}}
{{- end -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ $namespace }}
  podSelector:
    matchLabels:
      {{- include "sanfran.selector" . | nindent 6 }}
{{- end -}}

{{/* DNS, wherever it is: some clusters have it on the nodes. */}}
{{- define "sanfran.policy.dns" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end -}}

{{/* Metrics. Kubelets' probes come from the node, which no policy keeps out. */}}
{{- define "sanfran.policy.admin" -}}
- ports:
    - port: 9090
  {{- with .Values.networkPolicy.metricsFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  from:
    - namespaceSelector: {}
  {{- end }}
{{- end -}}
