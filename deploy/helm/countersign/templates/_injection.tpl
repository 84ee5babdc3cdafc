{{/* The settings of injection. Not a .yaml file: the tests load it as the controller does. */}}
{{- define "countersign.injection" -}}
{{- with .Values.injection -}}
gateways: [{{ printf "%s-headless.%s.svc:3128" (include "countersign.fullname" $) $.Release.Namespace | quote }}]
relayImage: {{ include "countersign.imageOf" (list $ .relayImage) | quote }}
redirectImage: {{ include "countersign.imageOf" (list $ .redirectImage) | quote }}
imagePullPolicy: {{ .imagePullPolicy | quote }}
audience: {{ $.Values.gateway.cluster.audience | quote }}
relayUid: {{ .relayUid }}
relayGid: {{ .relayGid }}
ports: {{ toJson .ports }}
trustConfigMap: countersign-ca
gatewayCaConfigMap: countersign-gateway-ca
ownNamespace: {{ $.Release.Namespace }}
clusterDomain: {{ .clusterDomain | quote }}
clusterRanges: {{ toJson .clusterRanges }}
{{- with .defaultMode }}
defaultMode: {{ . }}
{{- end }}
relayResources: {{ toJson .relayResources }}
redirectResources: {{ toJson .redirectResources }}
{{- end -}}
{{- end -}}

{{/* What the controller keeps of trust. */}}
{{- define "countersign.trust" -}}
gateways:
  - serviceAccount: {{ include "countersign.serviceAccountName" . }}
    namespace: {{ .Release.Namespace }}
    serves: {{ include "countersign.serves" . }}
    intercepts: {{ toJson .Values.trust.intercepts }}
rootSecret: {{ .Values.trust.rootSecret | quote }}
webhookService: {{ include "countersign.controllerName" . }}
intermediateLife: {{ .Values.trust.intermediateLife }}
servingLife: {{ .Values.trust.servingLife }}
{{- end -}}
