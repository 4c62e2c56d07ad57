// Added to the configuration that OHIF ships: the PACS beside it instead of its public demonstration.
window.config.defaultDataSourceName = 'orthanc';
window.config.dataSources = [
  {
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'orthanc',
    configuration: {
      friendlyName: 'Orthanc',
      name: 'orthanc',
      qidoRoot: '/dicom-web',
      wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: false,
      imageRendering: 'wadors',
      thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true,
      supportsFuzzyMatching: false,
      supportsWildcard: true,
      bulkDataURI: { enabled: true },
      omitQuotationForMultipartRequest: true,
    },
  },
];
// The question whether this is for research would hide what is measured.
window.config.investigationalUseDialog = { option: 'never' };
