// The admin functions of kafkajs. `connected` gives its admin client.
'use strict'

const { ConfigResourceTypes, AssignerProtocol } = require('kafkajs')

// No incremental changes, no log directories, no ids of topics, no offsets that are deleted.
const CAPABILITIES = [
  'create_topic', 'delete_topic', 'metadata', 'describe_cluster', 'describe_configs', 'config_entries', 'alter_configs',
  'create_partitions', 'delete_records', 'list_groups', 'describe_group', 'group_offsets', 'delete_group',
]

const TYPES = {
  topic: ConfigResourceTypes.TOPIC, broker: ConfigResourceTypes.BROKER, broker_logger: ConfigResourceTypes.BROKER_LOGGER,
}

// As Java spells them: PreparingRebalance is PREPARING_REBALANCE.
const stateName = (state) => state.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase()

const byTopicAndPartition = ([a, one], [b, other]) => (a < b ? -1 : a > b ? 1 : one - other)

// The kinds and numbers the protocol has; kafkajs gives them as they come.
const SOURCES = {
  1: 'TOPIC_CONFIG', 2: 'DYNAMIC_BROKER_CONFIG', 3: 'DYNAMIC_DEFAULT_BROKER_CONFIG', 4: 'STATIC_BROKER_CONFIG', 5: 'DEFAULT_CONFIG',
}
const sourceName = (source) => SOURCES[source] || String(source)

function partitionsOf(assignment) {
  const decoded = assignment.length ? AssignerProtocol.MemberAssignment.decode(assignment) : null
  return Object.entries(decoded ? decoded.assignment : {})
    .flatMap(([topic, partitions]) => partitions.map((partition) => [topic, partition])).sort(byTopicAndPartition)
}

function operations(connected) {
  async function entries({ kind, name }) {
    const admin = await connected()
    const { resources } = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type: TYPES[kind], name }] })
    return resources[0].configEntries
  }

  return {
    async create_topic({ name, partitions, configs, replication_factor: replicationFactor = 1 }) {
      const admin = await connected()
      const configEntries = Object.entries(configs).map(([key, value]) => ({ name: key, value }))
      const topic = { topic: name, numPartitions: partitions, replicationFactor, configEntries }
      // Apache Kafka's brokers hear of a topic after its creation was answered: kafkajs takes that for an error. One that
      // is there already is none to it.
      return (await admin.createTopics({ topics: [topic], waitForLeaders: false })) ? null : { created: false }
    },

    async delete_topic({ name }) {
      const admin = await connected()
      await admin.deleteTopics({ topics: [name] })
    },

    async metadata({ topic }) {
      const admin = await connected()
      const cluster = await admin.describeCluster()
      const found = await admin.fetchTopicMetadata(topic ? { topics: [topic] } : undefined)
      const topics = {}
      for (const each of found.topics) {
        topics[each.name] = each.partitions
          .map(({ partitionId, leader, replicas }) => ({ partition: partitionId, leader, replicas }))
          .sort((a, b) => a.partition - b.partition)
      }
      return { brokers: cluster.brokers.map(({ nodeId, host, port }) => ({ id: nodeId, host, port })), topics }
    },

    async describe_cluster() {
      const admin = await connected()
      const { clusterId, brokers } = await admin.describeCluster()
      return { cluster_id: clusterId, nodes: brokers.map(({ nodeId }) => nodeId) }
    },

    async describe_configs(args) {
      return Object.fromEntries((await entries(args)).map(({ configName, configValue }) => [configName, configValue]))
    },

    async config_entries(args) {
      return Object.fromEntries((await entries(args)).map((each) => [each.configName, {
        value: each.configValue, source: sourceName(each.configSource), read_only: each.readOnly, sensitive: each.isSensitive,
        synonyms: each.configSynonyms.map((one) => [one.configName, one.configValue, sourceName(one.configSource)]),
      }]))
    },

    async alter_configs({ kind, name, set, validate_only: validateOnly = false }) {
      const admin = await connected()
      const configEntries = Object.entries(set).map(([key, value]) => ({ name: key, value }))
      await admin.alterConfigs({ validateOnly, resources: [{ type: TYPES[kind], name, configEntries }] })
    },

    async create_partitions({ topic, total }) {
      const admin = await connected()
      await admin.createPartitions({ topicPartitions: [{ topic, count: total }] })
    },

    async delete_records({ topic, partition, offset }) {
      const admin = await connected()
      // kafkajs looks for leaders among the topics it has heard of.
      await admin.fetchTopicOffsets(topic)
      await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] })
    },

    async list_groups() {
      const admin = await connected()
      return (await admin.listGroups()).groups.map(({ groupId, protocolType }) => ({ group: groupId, type: protocolType }))
    },

    async describe_group({ group }) {
      const admin = await connected()
      const { groups: [found] } = await admin.describeGroups([group])
      const members = found.members.map(({ clientId, memberAssignment }) => (
        // The versions of the protocol kafkajs speaks know no static members.
        { client_id: clientId, instance_id: null, partitions: partitionsOf(memberAssignment) }))
      return { state: stateName(found.state), assignor: found.protocol, members }
    },

    async group_offsets({ group }) {
      const admin = await connected()
      const found = await admin.fetchOffsets({ groupId: group })
      return found.flatMap(({ topic, partitions }) => (
        partitions.map(({ partition, offset }) => [topic, partition, Number(offset)]))).sort(byTopicAndPartition)
    },

    async delete_group({ group }) {
      const admin = await connected()
      await admin.deleteGroups([group])
    },
  }
}

module.exports = { operations, CAPABILITIES }
