{{- define "memop.labels" -}}
app.kubernetes.io/name: memop
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Never with the release's name or the version: a Deployment's selector cannot change. */}}
{{- define "memop.selector" -}}
app.kubernetes.io/name: memop
app.kubernetes.io/component: operator
{{- end }}

{{/* An object of manifests/ as it is, in this release's namespace. Takes root, file, labels. */}}
{{- define "memop.copied" -}}
{{- $object := .root.Files.Get (printf "files/%s" .file) | replace "memop-system" .root.Release.Namespace | fromYaml }}
{{- $labels := include "memop.labels" .root | fromYaml }}
{{- $_ := set $object.metadata "labels" (mergeOverwrite ($object.metadata.labels | default dict) $labels .labels) }}
{{- toYaml $object }}
{{- end }}

{{/* CRDs of a directory, which `helm upgrade` upgrades as any other object. Takes root, directory, keep. */}}
{{- define "memop.crds" -}}
{{- $metadata := "metadata:\n" }}
{{- if .keep }}
  {{- $metadata = "metadata:\n  annotations: {helm.sh/resource-policy: keep}\n" }}
{{- end }}
{{- range $path, $_ := .root.Files.Glob (printf "files/%s/*.yaml" .directory) }}
---
{{ $.root.Files.Get $path | replace "\nmetadata:\n" (printf "\n%s" $metadata) }}
{{- end }}
{{- end }}

{{/* A Role or ClusterRole and its binding to memop. Takes root, kind, name, namespace, rules: a file of files/rights. */}}
{{- define "memop.granted" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "memop.labels" .root | nindent 4 }}
    app.kubernetes.io/component: rbac
rules:
{{ .root.Files.Get (printf "files/rights/%s.yaml" .rules) | trim | indent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "memop.labels" .root | nindent 4 }}
    app.kubernetes.io/component: rbac
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: memop
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* A ClusterRole for users. Takes root, name, rules, to: which of Kubernetes' own it becomes part of. */}}
{{- define "memop.forUsers" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .name }}
  labels:
    {{- include "memop.labels" .root | nindent 4 }}
    app.kubernetes.io/component: rbac
    {{- range .to }}
    rbac.authorization.k8s.io/aggregate-to-{{ . }}: "true"
    {{- end }}
rules:
{{ .root.Files.Get (printf "files/rights/%s.yaml" .rules) | trim | indent 2 }}
{{- end }}
