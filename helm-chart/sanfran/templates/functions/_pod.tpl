{{/*
The function pod, as the controller gets it: generic until it is activated. Names, the owner and what it runs
are the controller's to add.

Function code runs in the container `runtime`. It shares with `sidecar` the pod's network and the volume
`shared`, which it cannot write to; it has neither the certificate nor a process in common.
*/}}
{{- define "sanfran.function-pod" -}}
{{- $part := dict "root" . "component" "function" -}}
{{- $values := .Values.functions -}}
{{- range list "containers" "initContainers" "volumes" "serviceAccountName" "automountServiceAccountToken" "restartPolicy" "shareProcessNamespace" "hostNetwork" "hostPID" "hostIPC" -}}
{{- if hasKey ($values.podTemplate.spec | default dict) . -}}
{{- fail (printf "\n\nfunctions.podTemplate.spec.%s: is the chart's own; what may be set is nodeSelector, tolerations, runtimeClassName and the like.\n" .) -}}
{{- end -}}
{{- end -}}
{{- $pod := include "sanfran.function-pod.base" . | fromYaml -}}
{{- if hasKey $pod "Error" -}}
{{- fail $pod.Error -}}
{{- end -}}
{{- $ours := deepCopy $pod.metadata.labels -}}
{{- $pod = mergeOverwrite $pod (deepCopy $values.podTemplate) -}}
{{- $_ := set $pod.metadata "labels" (mergeOverwrite ($pod.metadata.labels | default dict) $ours) -}}
{{- toYaml $pod -}}
{{- end -}}

{{- define "sanfran.function-pod.base" -}}
{{- $part := dict "root" . "component" "function" -}}
{{- $values := .Values.functions -}}
apiVersion: v1
kind: Pod
metadata:
  labels:
    {{- include "sanfran.selector" $part | nindent 4 }}
    app.kubernetes.io/part-of: sanfran
    app.kubernetes.io/managed-by: sanfran-controller
  annotations:
    # A node that is drained or given back may take it: another one is made elsewhere.
    cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
    kubectl.kubernetes.io/default-container: sidecar
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: Never
  terminationGracePeriodSeconds: {{ include "sanfran.grace" $values.sidecar.settings }}
  {{- if .Values.priorityClasses.create }}
  priorityClassName: {{ include "sanfran.cluster-name" . }}-functions
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    # Of the volume through which the two containers meet.
    fsGroup: 10000
    seccompProfile:
      type: RuntimeDefault
  topologySpreadConstraints:
    - maxSkew: 3
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "sanfran.selector" $part | nindent 10 }}
  containers:
    - name: runtime
      image: {{ include "sanfran.image" (dict "root" . "name" "runtime") }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      # Anybody may write to this file, it lies on the node's disk, and lasts as long as the container: where function
      # code can reach it, one function leaves things to the next, or fills the disk. The image keeps this folder closed.
      terminationMessagePath: /sanfran/kubelet/termination-log
      {{- with $values.runtime.nodeFlags }}
      env:
        - name: SANFRAN_NODE_FLAGS
          value: {{ . | quote }}
      {{- end }}
      ports:
        - name: http
          containerPort: 8083
      resources:
        {{- toYaml $values.runtime.resources | nindent 8 }}
      securityContext:
        runAsUser: 10005
        runAsGroup: 10005
        {{- include "sanfran.container-security" . | nindent 8 }}
      volumeMounts:
        - name: shared
          mountPath: /run/sanfran
          readOnly: true
        - name: scratch
          mountPath: /tmp
    - name: sidecar
      image: {{ include "sanfran.image" (dict "root" . "name" "sidecar") }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        {{- include "sanfran.common-settings" (dict "root" . "prefix" "SANFRAN_SIDECAR") | nindent 8 }}
        - name: SANFRAN_SIDECAR_POD
          value: $(POD_NAME)
        - name: SANFRAN_SIDECAR_LISTEN
          value: 0.0.0.0:8084
        - name: SANFRAN_SIDECAR_API
          value: dns:{{ include "sanfran.fullname" . }}-api-grpc.{{ .Release.Namespace }}:8091
        - name: SANFRAN_SIDECAR_SHARED_DIR
          value: /run/sanfran
        - name: SANFRAN_SIDECAR_HTTP_HOST
          value: $(POD_IP)
        {{- include "sanfran.settings" (dict "prefix" "SANFRAN_SIDECAR" "settings" $values.sidecar.settings) | nindent 8 }}
      ports:
        - name: grpc
          containerPort: 8084
        - name: admin
          containerPort: 9090
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        # For people who look: the controllers connect as soon as the container runs.
        periodSeconds: 15
        timeoutSeconds: 2
        failureThreshold: 2
      resources:
        {{- toYaml $values.sidecar.resources | nindent 8 }}
      securityContext:
        runAsUser: 10004
        runAsGroup: 10004
        {{- include "sanfran.container-security" . | nindent 8 }}
      volumeMounts:
        - name: shared
          mountPath: /run/sanfran
        - name: tls
          mountPath: /etc/sanfran/tls
          readOnly: true
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: shared
      emptyDir:
        medium: Memory
        sizeLimit: {{ $values.sidecar.bundlesSize }}
    - name: scratch
      emptyDir:
        medium: Memory
        sizeLimit: {{ $values.runtime.scratchSize }}
    - name: tmp
      emptyDir:
        sizeLimit: 16Mi
    - name: tls
      secret:
        secretName: {{ include "sanfran.release" . }}-sidecar-tls
        defaultMode: 0440
{{- end -}}
