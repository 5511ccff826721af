package driver

// AlterConfigs are the arguments of alter_configs (`set`: all there is to be) and of incremental_alter_configs (`ops`:
// operation, key, value or null).
type AlterConfigs struct {
	Kind         string            `json:"kind"`
	Name         string            `json:"name"`
	Set          map[string]string `json:"set"`
	Ops          [][3]*string      `json:"ops"`
	ValidateOnly bool              `json:"validate_only"`
}

// OnPartition are the arguments of admin functions about a partition.
type OnPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Group     string `json:"group"`
	Total     int32  `json:"total"`
	At        string `json:"at"`
	Timestamp int64  `json:"timestamp"`
}
