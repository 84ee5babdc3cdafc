{{/*
The Gateway resource. Not a .yaml file: it is one only when rendered, and is then loaded by the
tests as `countersign run` loads it.
*/}}
{{- define "countersign.gateway" -}}
{{- $account := "/var/run/secrets/kubernetes.io/serviceaccount" -}}
apiVersion: countersign.dev/v1alpha1
kind: Gateway
metadata:
  name: {{ include "countersign.fullname" . }}
spec:
  listeners:
    - name: proxy
      address: {{ printf "%s:3128" .Values.gateway.listenAddress | quote }}
      mode: explicit
      {{- if include "countersign.signsServing" . }}
      tls:
        issuer:
          signer: countersign.dev/gateway
          names: {{ include "countersign.serves" . }}
      {{- else }}
      tls: { certificate: /run/tls/tls.crt, key: /run/tls/tls.key }
      {{- end }}
  identity:
    issuers:
      - name: {{ .Values.gateway.cluster.name | quote }}
        issuer: {{ .Values.gateway.cluster.issuer | quote }}
        audience: {{ .Values.gateway.cluster.audience | quote }}
        maxTokenLife: {{ .Values.gateway.cluster.maxTokenLife | quote }}
        jwks:
          url: https://kubernetes.default.svc/openid/v1/jwks
          caFile: {{ $account }}/ca.crt
        tokenReview:
          cluster: in-cluster
          cacheFor: {{ .Values.gateway.cluster.tokenReviewCacheFor | quote }}
        podFacts: {{ .Values.gateway.cluster.podFacts }}
  service: { namespace: {{ .Release.Namespace }}, name: {{ include "countersign.fullname" . }} }
  resources:
    - directory: /etc/countersign/policy
    {{- if .Values.gateway.objects.enabled }}
    - kubernetes:
        operatorNamespace: {{ default .Release.Namespace .Values.gateway.objects.operatorNamespace }}
        {{- with .Values.gateway.objects.namespaces }}
        namespaces: {{ toJson . }}
        {{- end }}
    {{- end }}
  interception:
    {{- if include "countersign.signsInterception" . | trim }}
    issuer: { signer: countersign.dev/interception }
    {{- else }}
    ca: { directory: {{ ternary "/run/ca" "/var/lib/countersign/ca" (ne .Values.ca.existingSecret "") }} }
    {{- end }}
  {{- with .Values.gateway.state }}
  state:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  state: { directory: /var/lib/countersign/state }
  {{- end }}
  unmatched: {{ .Values.gateway.unmatched }}
  {{- with .Values.gateway.upstream }}
  upstream:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.gateway.limits }}
  limits:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  observe:
    decisions: { stdout: json }
    # The kubelet probes the pod's address, not loopback.
    admin: {{ printf "%s:9901" .Values.gateway.listenAddress | quote }}
    {{- with .Values.gateway.traces }}
    traces:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end -}}
